"""What the owner wants to be woken for: looks at a node's leases, and nodes that may be asked again."""

import heapq
from typing import TypeAlias

from meshd_node.core.owner.executors import Executor
from meshd_node.core.owner.job import Job

Due: TypeAlias = Executor | Job


class Timers:
    """A heap of times. One entry per node with leases and per refusal, none per unit."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Due]] = []
        self._serial = 0
        self._asked: float | None = None

    def set(self, at: float, due: Due) -> None:
        """Have something looked at."""
        self._serial += 1  # ties are broken by age, never by comparing what is due
        heapq.heappush(self._heap, (at, self._serial, due))

    def pop_due(self, now: float) -> list[Due]:
        """Everything whose time has come."""
        due: list[Due] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        return due

    def rang(self) -> None:
        """The shell woke us: its timer is spent."""
        self._asked = None

    def wish(self) -> float | None:
        """A time to ask the shell for, if it is earlier than what was asked before."""
        if not self._heap or (self._asked is not None and self._asked <= self._heap[0][0]):
            return None
        self._asked = self._heap[0][0]
        return self._asked
