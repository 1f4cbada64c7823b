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
        self._first = math.inf  # the time on top, which everybody asks for all the time

    def set(self, node: NodeId, at: float) -> None:
        """Be due at `at`; never, if that is infinite."""
        if math.isinf(at):
            if self._at.pop(node, None) is not None:
                self._settle()
            return
        if self._at.get(node) == at:
            return
        self._at[node] = at
        heapq.heappush(self._heap, (at, node))
        if len(self._heap) > 2 * len(self._at) + 16:
            self._heap = [(at, node) for node, at in self._at.items()]
            heapq.heapify(self._heap)
        self._settle()

    def next(self) -> float:
        """The earliest time, infinity if there is none."""
        return self._first

    def pop_due(self, now: float) -> list[NodeId]:
        """Take out all nodes whose time has come, in order."""
        due = []
        while self._first <= now:
            _, node = heapq.heappop(self._heap)
            del self._at[node]
            due.append(node)
            self._settle()
        return due

    def _settle(self) -> None:
        """Have on top a time that stands."""
        heap = self._heap
        while heap and self._at.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        self._first = heap[0][0] if heap else math.inf
