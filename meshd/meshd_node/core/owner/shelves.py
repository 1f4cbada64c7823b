"""Units that wait for one more attempt, kept together by the nodes that must not or should not run them.

Looking for a node costs once per shelf, not once per unit: thousands of second copies that wait for the same busy
node are one look.
"""

from collections import deque
from typing import NamedTuple

from meshd_node.core.owner.executors import Executor
from meshd_node.core.owner.pool import Pool
from meshd_node.core.owner.unit import Unit, Voter
from meshd_protocol.ids import NodeId


class Exclusion(NamedTuple):
    """`barred` nodes and voters have a copy of the unit; `avoided` nodes failed it, the last one last."""

    barred: frozenset[Voter]
    avoided: tuple[NodeId, ...]


class Shelf:
    """Units with the same exclusion. `group`, the nodes that may take them, was found in `pool`."""

    __slots__ = ("exclusion", "group", "pool", "units")

    def __init__(self, exclusion: Exclusion) -> None:
        self.exclusion = exclusion
        self.units: deque[Unit] = deque()
        self.pool: Pool | None = None
        self.group: frozenset[Executor] = frozenset()

    def head(self) -> Unit | None:
        """The first unit that still waits here."""
        while self.units:
            if self.holds(self.units[0]):
                return self.units[0]
            self.units.popleft()
        return None

    def holds(self, unit: Unit) -> bool:
        """Whether a unit in the queue still waits here: those that ended or moved are left behind."""
        return unit.trial is not None and unit.trial.shelf is self


class Shelves:
    """All shelves of a job. `count` units wait on them."""

    def __init__(self) -> None:
        self._shelves: dict[Exclusion, Shelf] = {}
        self.count = 0

    def put(self, unit: Unit, exclusion: Exclusion) -> None:
        """Let a unit wait for a node outside `exclusion`, wherever it waited before."""
        self.take(unit)
        shelf = self._shelves.get(exclusion)
        if shelf is None:
            shelf = self._shelves[exclusion] = Shelf(exclusion)
        unit.open_trial().shelf = shelf
        shelf.units.append(unit)
        self.count += 1

    def take(self, unit: Unit) -> None:
        """Let a unit wait no more."""
        if unit.trial is not None and unit.trial.shelf is not None:
            unit.trial.shelf = None
            self.count -= 1

    def waiting(self) -> list[Shelf]:
        """The shelves with somebody on them, the longest waiting first."""
        for exclusion in [key for key, shelf in self._shelves.items() if shelf.head() is None]:
            del self._shelves[exclusion]
        return list(self._shelves.values())
