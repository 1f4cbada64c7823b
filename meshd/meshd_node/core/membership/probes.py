"""One probe a period, of each observed member in turn, and whom to ask when it is not answered."""

import random
from collections.abc import Iterable

from msgspec import Struct, field

from meshd_protocol.ids import NodeId


class Round:
    """The order of probes: everybody once in a round, in a new order each time, so that observers do not keep step."""

    __slots__ = ("_hurried", "_queue", "_rng", "_targets")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._targets: dict[NodeId, None] = {}
        self._queue: list[NodeId] = []
        self._hurried: dict[NodeId, None] = {}

    def __contains__(self, node: NodeId) -> bool:
        return node in self._targets

    def __len__(self) -> int:
        return len(self._targets)

    def aim(self, targets: Iterable[NodeId]) -> None:
        """Probe these from now on. New ones get a place in what is left of this round."""
        before, self._targets = self._targets, dict.fromkeys(targets)
        for node in self._targets:
            if node not in before:
                self._queue.insert(self._rng.randint(0, len(self._queue)), node)

    def hurry(self, node: NodeId) -> None:
        """Probe this one next, if it is a target: somebody doubts that it lives."""
        if node in self._targets:
            self._hurried[node] = None

    def next(self) -> NodeId | None:
        """Whom to probe now; None while there is nobody."""
        while self._hurried:
            node = next(iter(self._hurried))
            del self._hurried[node]
            if node in self._targets:
                return node
        while self._targets:
            if not self._queue:
                self._queue = list(self._targets)
                self._rng.shuffle(self._queue)
            node = self._queue.pop()
            if node in self._targets:
                return node
        return None


class Flight(Struct, gc=False):
    """The probe of this period. `asked` are helpers who have not reported, `coming` those whom we dial for help.

    Direct until `late_at`, through helpers until `ends_at`. `judge`: silence speaks against the target.
    """

    target: NodeId
    sequence: int
    late_at: float
    ends_at: float
    helped: bool = False
    reached: bool = False
    helpers: int = 0
    asked: set[NodeId] = field(default_factory=set)
    coming: set[NodeId] = field(default_factory=set)

    def next_at(self) -> float:
        """When something about it is to be decided."""
        return self.ends_at if self.reached or self.helped else self.late_at
