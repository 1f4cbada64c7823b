"""Probes that this node makes for others who ask it to."""

import math
from typing import Final

from msgspec import Struct

from meshd_protocol.ids import NodeId

# A node asks for one target at a time; what it asked before is over when it asks anew, but for stalls in between.
_EACH_MAX: Final = 4


class Errand(Struct, frozen=True, gc=False):
    """Report to `asker`, under the `sequence` that it chose, whether the target has answered."""

    asker: NodeId
    sequence: int
    target: NodeId
    until: float


class Errands:
    """What others wait for, by the sequence number of our own probe, the oldest first. Bounded, for each asker too."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._errands: dict[int, Errand] = {}
        self._askers: dict[NodeId, int] = {}

    def __len__(self) -> int:
        return len(self._errands)

    def take(self, errand: Errand, sequence: int) -> bool:
        """Remember it; False if that asker, or all of them, ask too much."""
        asked = self._askers.get(errand.asker, 0)
        if len(self._errands) >= self._most or asked >= _EACH_MAX:
            return False
        self._errands[sequence] = errand
        self._askers[errand.asker] = asked + 1
        return True

    def done(self, sequence: int, target: NodeId) -> Errand | None:
        """This target has answered that probe: whom it matters to."""
        errand = self._errands.get(sequence)
        if errand is None or errand.target != target:
            return None
        self._end(sequence)
        return errand

    def pop_due(self, now: float) -> list[Errand]:
        """Those whose target has not answered in time."""
        due = []
        while self.next_at() <= now:
            due.append(self._end(next(iter(self._errands))))
        return due

    def next_at(self) -> float:
        """When the oldest one's time is over."""
        errand = next(iter(self._errands.values()), None)
        return math.inf if errand is None else errand.until

    def _end(self, sequence: int) -> Errand:
        errand = self._errands.pop(sequence)
        left = self._askers[errand.asker] - 1
        if left:
            self._askers[errand.asker] = left
        else:
            del self._askers[errand.asker]
        return errand
