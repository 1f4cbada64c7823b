"""One time per node, the earliest first."""

import heapq
import math

from meshd_protocol.ids import NodeId


class Deadlines:
    """At most one time for each node; a new one replaces the old.

    A replaced time stays in the heap until it is on top; the heap is rebuilt when such times outnumber the others.
    """

    def __init__(self) -> None:
        self._at: dict[NodeId, float] = {}
        self._heap: list[tuple[float, NodeId]] = []

    def set(self, node: NodeId, at: float) -> None:
        """Be due at `at`; never, if that is infinite."""
        if math.isinf(at):
            self._at.pop(node, None)
            return
        if self._at.get(node) == at:
            return
        self._at[node] = at
        heapq.heappush(self._heap, (at, node))
        if len(self._heap) > 2 * len(self._at) + 16:
            self._heap = [(at, node) for node, at in self._at.items()]
            heapq.heapify(self._heap)

    def next(self) -> float:
        """The earliest time, infinity if there is none."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def pop_due(self, now: float) -> list[NodeId]:
        """Take out all nodes whose time has come, in order."""
        due = []
        while self.next() <= now:
            _, node = heapq.heappop(self._heap)
            del self._at[node]
            due.append(node)
        return due
