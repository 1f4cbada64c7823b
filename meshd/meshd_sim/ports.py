"""A node's place in the network: its sessions, its dials, and what it writes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId
from meshd_sim.parcels import Parcel
from meshd_sim.pipes import Pipe

if TYPE_CHECKING:
    from meshd_sim.network import Network


class Endpoint(Protocol):
    """A process that speaks. It is entered for one thing at a time; what it wrote leaves when it returns."""

    def admits(self, node: NodeId) -> bool:
        """Whether a session with this node may begin: it may be revoked, or of another mesh."""
        ...

    def link_up(self, node: NodeId, address: str) -> None:
        """A session began; `address` is where it was dialled, "" if the peer dialled."""
        ...

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        """A session ended, once for each `link_up`."""
        ...

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        """A dial ended without a session."""
        ...

    def messages(self, node: NodeId, batch: list[tuple[Message, int]]) -> None:
        """What one read brought, each message with its stream."""
        ...

    def thawed(self) -> None:
        """The process runs again after a freeze; what had arrived meanwhile came before this."""
        ...


class Dial:
    """One try for a session, at one address after the other. It is `live` until it ends either way."""

    __slots__ = ("addresses", "key", "live", "node", "position", "refused")

    def __init__(self, node: NodeId | None, addresses: Sequence[str]) -> None:
        self.node = node
        self.addresses = addresses
        self.key: NodeId | str = addresses[0] if node is None else node
        self.live = True
        self.position = 0
        # Whether every address so far said that nobody listens.
        self.refused = True


class Port:
    """One machine on the network. `endpoint` is None while no process of the mesh runs on it."""

    def __init__(self, node: NodeId, network: "Network", distance: float) -> None:
        self.node = node
        self.distance = distance
        self.endpoint: Endpoint | None = None
        self.powered = True
        self.frozen = False
        # What reached a frozen process, in order.
        self.backlog: list[tuple[Callable[[Any], None], Any]] = []
        self.pipes: dict[NodeId, Pipe] = {}
        self.dials: dict[NodeId | str, Dial] = {}
        self.sent_bytes = 0
        self._network = network
        self._unflushed: list[Pipe] = []
        self._encoded: tuple[Message, Parcel] | None = None

    def dial(self, node: NodeId | None, addresses: Sequence[str]) -> None:
        """Try for a session with a node, or with whoever answers at the address.

        Ends in `link_up` or `dial_failed`. Nothing happens while there is a session or such a dial.
        """
        if not addresses or (node in self.pipes):
            return
        dial = Dial(node, addresses)
        if dial.key not in self.dials:
            self.dials[dial.key] = dial
            self._network.begin(self, dial)

    def write(self, node: NodeId, message: Message, stream: int = 0) -> None:
        """Queue a message for a peer; nothing happens if its session is gone."""
        pipe = self.pipes.get(node)
        if pipe is None:
            return
        encoded = self._encoded
        # A rumour goes to several peers in a row: its bytes are made once.
        if encoded is None or encoded[0] is not message or encoded[1].stream != stream:
            self._encoded = encoded = (message, Parcel(message, stream))
        if not pipe.waiting:
            self._unflushed.append(pipe)
        pipe.waiting.append(encoded[1])

    def flush(self) -> None:
        """Send what was queued; who writes outside of the endpoint's calls has to call it."""
        while self._unflushed:
            pipes, self._unflushed = self._unflushed, []
            for pipe in pipes:
                parcels, pipe.waiting = pipe.waiting, []
                if pipe.up:
                    self.sent_bytes += self._network.send(pipe, parcels)

    def close(self, node: NodeId) -> None:
        """End the session with a peer, if there is one; it is told."""
        pipe = self.pipes.get(node)
        if pipe is not None:
            self.flush()
            self._network.hang_up(pipe)
