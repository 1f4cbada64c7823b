"""Invariant 15 in the workers: nobody computes for long what nobody waits for."""

from dataclasses import dataclass, field
from typing import Final

from meshd_protocol.ids import JobId, NodeId
from meshd_sim.jobs.books import JobBook
from meshd_sim.jobs.rules.require import require

# A recall that meets a frozen node (25 s at most), or a session whose end has to be noticed first (15 s).
LATE_S: Final = 45.0


@dataclass(slots=True)
class Work:
    """What runs in the workers of all nodes: since when, by node, job and unit. One unit may run twice on a node."""

    jobs: dict[JobId, JobBook] = field(default_factory=dict)
    running: dict[tuple[NodeId, JobId, int], list[float]] = field(default_factory=dict)
    late_s: float = 0.0  # seconds of work after the end of its unit, in all

    def began(self, node: NodeId, job: JobId, index: int, now: float) -> None:
        """A worker began with a unit."""
        self.running.setdefault((node, job, index), []).append(now)

    def stopped(self, node: NodeId, job: JobId, index: int, now: float) -> None:
        """A worker ended a unit, or was ended in it."""
        starts = self.running[node, job, index]
        self._look((node, job, index), starts.pop(0), now)
        if not starts:
            del self.running[node, job, index]

    def check(self, now: float) -> None:
        """Look at what still runs."""
        for key, starts in self.running.items():
            for start in starts:
                self._look(key, start, now)

    def _look(self, key: tuple[NodeId, JobId, int], start: float, now: float) -> None:
        _, job, index = key
        book = self.jobs[job]
        ended_at = book.units[index].ended_at if index < len(book.units) else book.ended_at
        late = now - max(start, ended_at)
        if late > 0:
            self.late_s += late
            require(late <= LATE_S, 15, f"unit {index} of job {book.plan.number} runs {late:.1f} s after its end")
