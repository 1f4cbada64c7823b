"""Jobs that have ended: listed, and detached ones' results kept for whoever attaches, within bounds."""

from collections import deque
from typing import Final

from meshd_node.core.submitter import Submitter
from meshd_node.services.jobs.context import JobContext
from meshd_protocol.messages.local import Outcome

# Ended jobs are listed, and detached ones keep their results, until one of these is reached.
ENDED_JOBS_KEPT: Final = 1_000
RETAINED_BYTES_MAX: Final = 1 << 30
RETENTION_S: Final = 3_600.0


class Retention:
    """Whoever has most gives way: nobody can push out another's results."""

    def __init__(self) -> None:
        self._ended: dict[Submitter, deque[tuple[float, JobContext]]] = {}
        self._count = 0
        self._bytes = 0

    def delivered(self, context: JobContext, outcomes: list[Outcome]) -> None:
        """Results that a detached job keeps, running or ended."""
        size = sum(len(outcome.value) for outcome in outcomes)
        context.retained_bytes += size
        self._bytes += size

    def ended(self, context: JobContext, now: float) -> None:
        """A job has ended."""
        self._ended.setdefault(context.submitter, deque()).append((now, context))
        self._count += 1

    def pop_surplus(self) -> JobContext | None:
        """Take out a job that is kept beyond the bounds."""
        if self._count > ENDED_JOBS_KEPT:
            return self._pop_oldest(max(self._ended, key=lambda submitter: len(self._ended[submitter])))
        if self._bytes > RETAINED_BYTES_MAX and self._ended:
            return self._pop_oldest(max(self._ended, key=self._bytes_of))
        return None

    def pop_expired(self, now: float) -> JobContext | None:
        """Take out a job that ended long ago."""
        for submitter, ended in self._ended.items():
            if ended[0][0] + RETENTION_S <= now:
                return self._pop_oldest(submitter)
        return None

    def _bytes_of(self, submitter: Submitter) -> int:
        return sum(context.retained_bytes for _, context in self._ended[submitter])

    def _pop_oldest(self, submitter: Submitter) -> JobContext:
        ended = self._ended[submitter]
        _, context = ended.popleft()
        if not ended:
            del self._ended[submitter]
        self._count -= 1
        self._bytes -= context.retained_bytes
        return context
