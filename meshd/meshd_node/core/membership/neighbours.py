"""The sessions that this node wants and those that it has."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.dialer import Dialer
from meshd_node.core.membership.effects import Dial
from meshd_node.core.membership.entry import Entry
from meshd_protocol.ids import NodeId

# Two processes with one identity, of a folder that was copied, end each other's sessions; so may whoever wants to cost
# its neighbours 50 handshakes a second. A few brief sessions are an unsteady network, or dials that cross.
_BRIEF_S: Final = 30.0
_BRIEF_FREE: Final = 3
_SPARED_S: Final = 10.0


class Entries(Protocol):
    """Where a node's addresses are found."""

    def get(self, node: NodeId) -> Entry | None:
        """What is held of one member."""
        ...


class Neighbours:
    """Sessions with those whom this node observes and who observe it: probes and rumours take no others.

    Any other session counts as connected, and is neither sought nor ended here.
    """

    def __init__(self, node: NodeId, rng: random.Random, config: MembershipConfig, entries: Entries) -> None:
        self._node = node
        self._config = config
        self._entries = entries
        self._dialer = Dialer(rng, config)
        self._wanted: dict[NodeId, None] = {}
        self._connected: dict[NodeId, None] = {}  # in order of arrival, so that a seed repeats every choice
        self._linked: list[NodeId] | None = None  # what `linked` said, while it holds
        # Neighbours that we tried to reach in vain, and whether there has been a session that ended.
        self._silent: dict[NodeId, bool] = {}
        self._rng = rng
        self._since: dict[NodeId, float] = {}
        # How many sessions in a row with a neighbour were brief, and until when it is not dialled because of that.
        self._brief: dict[NodeId, int] = {}
        self._spared: dict[NodeId, float] = {}

    @property
    def connected(self) -> Mapping[NodeId, None]:
        """All peers."""
        return self._connected

    def linked(self) -> Sequence[NodeId]:
        """The neighbours with whom there is a session. Not to be changed."""
        if self._linked is None:
            self._linked = [node for node in self._wanted if node in self._connected]
        return self._linked

    def silent(self, node: NodeId) -> bool:
        """Whether a session with this neighbour ended, or a dial failed, and nothing came about since."""
        return node in self._silent

    def lost(self, node: NodeId) -> bool:
        """Whether there was a session with this neighbour, and could not be another one since."""
        return self._silent.get(node, False)

    def aim(self, wanted: Iterable[NodeId], now: float) -> None:
        """Want sessions with exactly these."""
        before, self._wanted = self._wanted, dict.fromkeys(wanted)
        self._linked = None
        for node in before:
            if node not in self._wanted:
                self._dialer.drop(node)
                self._silent.pop(node, None)
                self._brief.pop(node, None)
                self._spared.pop(node, None)
        for node in self._wanted:
            if node not in before:
                self._seek(node, now + self._courtesy_s(node))

    def up(self, node: NodeId, now: float) -> None:
        """A session has begun."""
        self._connected[node] = None
        self._since[node] = now
        self._linked = None
        self._silent.pop(node, None)
        self._dialer.settled(node)

    def down(self, node: NodeId, now: float) -> None:
        """A session has ended: dial at once, whom we want, but not one who ends each of them soon."""
        self._connected.pop(node, None)
        self._linked = None
        lasted = now - self._since.pop(node, now)
        if node in self._wanted:
            self._silent[node] = True
            self._spare(node, lasted, now)
            self._seek(node, now + self._courtesy_s(node))

    def failed(self, node: NodeId, now: float) -> None:
        """A dial has failed."""
        self._dialer.failed(node, now)
        if node in self._wanted and node not in self._connected:
            self._silent.setdefault(node, False)

    def heard(self, node: NodeId, now: float) -> None:
        """A neighbour that we could not reach published a new version: it lives, maybe elsewhere."""
        if node in self._silent:
            self._seek(node, now)

    def borrow(self, node: NodeId, now: float) -> None:
        """Dial somebody who is no neighbour, for its help. Not while there is much to dial: then we are cut off."""
        if node not in self._wanted and not self._dialer.busy:
            self._seek(node, now)

    def release(self, nodes: Iterable[NodeId]) -> None:
        """Their help is not needed any more. A session that came about stays."""
        for node in nodes:
            if node not in self._wanted:
                self._dialer.drop(node)

    def dials(self, now: float) -> list[Dial]:
        """The dials to make now."""
        dials: list[Dial] = []
        for node in self._dialer.start(now):
            entry = self._entries.get(node)
            if entry is None or not entry.addresses:
                self._dialer.settled(node)
            else:
                dials.append(Dial(node, entry.addresses))
        return dials

    def next_at(self) -> float:
        """When there is another dial to make."""
        return self._dialer.next_at()

    def _spare(self, node: NodeId, lasted: float, now: float) -> None:
        """Note how long a session lasted, and let a neighbour alone for a pause that doubles with each brief one."""
        brief = self._brief[node] = 0 if lasted >= _BRIEF_S else self._brief.get(node, 0) + 1
        if brief > _BRIEF_FREE:
            pause = min(_SPARED_S, self._config.dial_first_s * 2.0 ** min(brief - _BRIEF_FREE, 16))
            self._spared[node] = now + pause * self._rng.uniform(0.5, 1.0)

    def _courtesy_s(self, node: NodeId) -> float:
        return 0.0 if self._node < node else self._config.courtesy_s

    def _seek(self, node: NodeId, at: float) -> None:
        entry = self._entries.get(node)
        if node not in self._connected and entry is not None and entry.addresses:
            self._dialer.want(node, max(at, self._spared.get(node, at)))
