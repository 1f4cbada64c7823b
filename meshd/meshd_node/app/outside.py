"""What membership does to the rest of the daemon: messages, dials, and news of members."""

from collections.abc import Sequence

from meshd_node.core.membership.effects import Member
from meshd_node.net.errors import ConnectionLost
from meshd_node.net.link import Link
from meshd_node.net.pool import Pool
from meshd_node.services.executors import Executors
from meshd_node.services.outflow import Outflow
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.peer import StateDigests, States, StateWants


class Outside:
    """Connects membership to the transport and to the list of executors, which both come later than it."""

    def __init__(self) -> None:
        self._pool: Pool | None = None
        self._executors: Executors | None = None
        self._outflow: Outflow | None = None

    def connect(self, pool: Pool, executors: Executors, outflow: Outflow) -> None:
        """Hand in what needs membership itself."""
        self._pool = pool
        self._executors = executors
        self._outflow = outflow

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
        assert self._outflow is not None, "timers fire when everything is built"
        self._outflow.flush()

    def send(self, node: NodeId, message: States | StateDigests | StateWants) -> None:
        """Send to a peer; nothing happens if its session is gone."""
        link = self.link(node)
        if link is not None:
            link.send(message)

    def dial(self, node: NodeId | None, addresses: Sequence[str]) -> None:
        """Try for a session."""
        assert self._pool is not None, "membership starts when everything is built"
        if node is not None:
            self._pool.start_dial(node, addresses)
            return
        for address in addresses:
            self._pool.dial_seed(address)

    def member_changed(self, member: Member) -> None:
        """A member is new or differs from before."""
        assert self._executors is not None, "membership starts when everything is built"
        self._executors.member_changed(member)
