"""One life of one node: its clock, its timers, its sessions, and the parts that run in it, one for each machine."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from meshd_protocol.errors import RemoteProtocolError
from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId
from meshd_protocol.signing import Domain, Signed
from meshd_sim.engine import Engine, grain
from meshd_sim.keys import Keyring
from meshd_sim.ports import Port


class Part(Protocol):
    """The shell of one machine, as far as the network concerns it."""

    def link_up(self, node: NodeId, address: str) -> None:
        """A session began; `address` is where it was dialled, "" if the peer dialled."""
        ...

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        """A session ended."""
        ...

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        """A dial ended without a session."""
        ...

    def message(self, sender: NodeId, message: Message, stream: int) -> None:
        """A message that this part answers to. Its `RemoteProtocolError` ends the session."""
        ...


class Clock:
    """A node's own clock: it began at some other time, and is too fast or too slow by up to a fifth."""

    __slots__ = ("_engine", "_offset", "_rate")

    def __init__(self, engine: Engine, offset: float = 0.0, rate: float = 1.0) -> None:
        self._engine = engine
        self._offset = offset
        self._rate = rate

    def now(self) -> float:
        """What it shows."""
        return self._offset + self._engine.now * self._rate

    def true(self, when: float) -> float:
        """When it will show `when`."""
        return grain((when - self._offset) / self._rate)


class Process:
    """An endpoint of the network that hands each message to the part that answers to its type."""

    def __init__(self, port: Port, engine: Engine, clock: Clock, keyring: Keyring) -> None:
        self.node = port.node
        self.alive = True
        self.faults: list[str] = []
        # A mute process keeps its sessions and never says a word.
        self.mute = False
        self._port = port
        self._engine = engine
        self.clock = clock
        self._keyring = keyring
        self._parts: list[Part] = []
        self._routes: dict[type[Message], Part] = {}
        self._refused: Callable[[NodeId], bool] | None = None
        # What came due while the process was frozen.
        self._late: list[Callable[[], None]] = []

    def add(self, part: Part, messages: Sequence[type[Message]]) -> None:
        """Let a part run here, and answer to these messages."""
        self._parts.append(part)
        self._routes |= dict.fromkeys(messages, part)

    def refuse(self, refused: Callable[[NodeId], bool]) -> None:
        """Ask this before any session begins."""
        self._refused = refused

    # --- what parts may use ---------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The node's own clock."""
        return self.clock.now()

    def sessions(self) -> list[NodeId]:
        """Everybody with a session."""
        return list(self._port.pipes)

    def connected(self, node: NodeId) -> bool:
        """Whether there is a session with a node."""
        return node in self._port.pipes

    def send(self, node: NodeId, message: Message, stream: int = 0) -> None:
        """Send in the present session; nothing happens without one."""
        if not self.mute:
            self._port.write(node, message, stream)

    def dial(self, node: NodeId | None, addresses: Sequence[str]) -> None:
        """Try for a session; ends in `link_up` or `dial_failed`."""
        if self.alive:
            self._port.dial(node, addresses)

    def hang_up(self, node: NodeId) -> None:
        """End the session with a peer."""
        self._port.close(node)

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do something later, if this process still lives then."""
        self._engine.at(self.clock.true(self.now + delay_s), self._due, act)

    def alarm(self, ring: Callable[[], None]) -> "Alarm":
        """A timer that can be set again and again."""
        return Alarm(ring, self._engine, self.clock, self._due)

    def sign(self, domain: Domain, body: bytes) -> Signed:
        """Sign with this node's key."""
        return self._keyring.sign(self.node, domain, body)

    def verify(self, node: NodeId, domain: Domain, signed: Signed) -> bytes:
        """The body, if that node signed it in `domain`; else raise `BadSignature`."""
        return self._keyring.verify(node, domain, signed)

    def enter(self, act: Callable[[], None]) -> None:
        """Do something from outside, say a user's wish, as the process would: what it writes leaves afterwards."""
        self._due(act)

    def _due(self, act: Callable[[], None]) -> None:
        if not self.alive:
            return
        if self._port.frozen:
            self._late.append(act)
            return
        act()
        self._port.flush()

    # --- what the network reports ---------------------------------------------------------------------------------

    def admits(self, node: NodeId) -> bool:
        """Whether a session with this node may begin."""
        return self._refused is None or not self._refused(node)

    def link_up(self, node: NodeId, address: str) -> None:
        """A session began."""
        for part in self._parts:
            part.link_up(node, address)

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        """A session ended."""
        for part in self._parts:
            part.link_down(node, refused=refused)

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        """A dial ended without a session."""
        for part in self._parts:
            part.dial_failed(node, address, refused=refused)

    def messages(self, node: NodeId, batch: list[tuple[Message, int]]) -> None:
        """What one read brought. Who breaks the protocol is hung up on."""
        routes = self._routes
        try:
            for message, stream in batch:
                if (part := routes.get(type(message))) is not None:
                    part.message(node, message, stream)
        except RemoteProtocolError as fault:
            self.faults.append(str(fault))
            self._port.close(node)

    def thawed(self) -> None:
        """The process runs again after a freeze: now its timers see how late it is."""
        late, self._late = self._late, []
        for act in late:
            self._due(act)


class Alarm:
    """One timer: at most one of its wishes stands. However often it is moved, few of them are in the heap."""

    __slots__ = ("_at", "_clock", "_due", "_engine", "_planned", "_ring")

    def __init__(
        self, ring: Callable[[], None], engine: Engine, clock: Clock, due: Callable[[Callable[[], None]], None]
    ) -> None:
        self._ring = ring
        self._engine = engine
        self._clock = clock
        self._due = due
        self._at = math.inf
        self._planned = math.inf

    def set(self, at: float) -> None:
        """Ring at this time of the node's clock, in place of any earlier wish."""
        self._at = at if math.isinf(at) else self._clock.true(at)
        if self._at < self._planned:
            self._planned = self._at
            self._engine.at(self._at, self._look, self._at)

    def _look(self, planned: float) -> None:
        if planned != self._planned:
            return
        self._planned = math.inf
        if self._at <= self._engine.now:
            self._at = math.inf
            self._due(self._ring)
        elif self._at < math.inf:
            self._planned = self._at
            self._engine.at(self._at, self._look, self._at)
