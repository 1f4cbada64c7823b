"""What membership does to the rest of the daemon: messages, dials, and news of members."""

from collections.abc import Sequence

from meshd_node.core.membership.effects import Member, Outgoing
from meshd_node.core.membership.events import VerifiedRevocation
from meshd_node.net.errors import ConnectionLost
from meshd_node.net.link import Link
from meshd_node.net.pool import Pool
from meshd_node.services.directory.service import DirectoryService
from meshd_node.services.execution.service import ExecutionService
from meshd_node.services.executors import Executors
from meshd_node.services.outflow import Outflow
from meshd_node.services.revocations import RevocationService
from meshd_node.services.traffic import Traffic
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import Load


class Outside:
    """Connects membership to what comes later than it: the transport, the executors, this node's own work."""

    def __init__(self, revocations: RevocationService, outflow: Outflow) -> None:
        self.traffic = Traffic()
        self._revocations = revocations
        self._outflow = outflow
        self._pool: Pool | None = None
        self._executors: Executors | None = None
        self._execution: ExecutionService | None = None
        self._directory: DirectoryService | None = None

    def connect(
        self, pool: Pool, executors: Executors, execution: ExecutionService, directory: DirectoryService
    ) -> None:
        """Hand in what needs membership itself."""
        self._pool = pool
        self._executors = executors
        self._execution = execution
        self._directory = directory

    # --- sessions -------------------------------------------------------------------------------------------------

    def link(self, node: NodeId) -> Link | None:
        """The session with a node, if there is one."""
        assert self._pool is not None, "services ask when everything is built"
        return self._pool.link(node)

    def links(self) -> list[Link]:
        """All sessions that are up."""
        assert self._pool is not None, "services ask when everything is built"
        return self._pool.links()

    async def reach(self, node: NodeId, address: str) -> ConnectionLost | None:
        """Find out whether a node can be dialled at an address: why not, or None."""
        assert self._pool is not None, "services ask when everything is built"
        return await self._pool.reach(node, address)

    def flush(self) -> None:
        """Send what was queued."""
        self._outflow.flush()

    def send(self, node: NodeId, message: Outgoing) -> None:
        """Send to a peer; nothing happens if its session is gone."""
        link = self.link(node)
        if link is not None:
            self.traffic.sent(message, link.send(message))

    def dial(self, node: NodeId | None, addresses: Sequence[str]) -> None:
        """Try for a session."""
        assert self._pool is not None, "membership starts when everything is built"
        if node is not None:
            self._pool.start_dial(node, addresses)
            return
        for address in addresses:
            self._pool.dial_seed(address)

    def drop(self, node: NodeId) -> None:
        """End the session with a revoked node: the transport does, for all at once, and shows each the proof."""
        assert self._pool is not None, "membership starts when everything is built"
        self._pool.drop_revoked()

    # --- news -----------------------------------------------------------------------------------------------------

    def member_changed(self, member: Member) -> None:
        """A member is new or differs from before."""
        assert self._executors is not None, "membership starts when everything is built"
        assert self._directory is not None, "membership starts when everything is built"
        self._executors.member_changed(member)
        self._directory.member_changed(member)

    def revoked(self, revocations: list[VerifiedRevocation]) -> None:
        """Others told of these."""
        self._revocations.learned(revocations)

    def load(self) -> Load:
        """How busy this node is now."""
        assert self._execution is not None, "nobody probes before everything is built"
        return self._execution.load()
