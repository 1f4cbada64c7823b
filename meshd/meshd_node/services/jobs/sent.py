"""What one executor has of our jobs in this session, so that nothing is sent twice and nothing it dropped is missed."""

from meshd_node.core.tranche_window import TrancheWindow
from meshd_protocol.ids import Digest, JobId


class SentJob:
    """What an executor holds of one job: its functions; and whether bulk carried its manifest."""

    __slots__ = ("functions", "on_bulk")

    def __init__(self) -> None:
        self.functions: set[Digest] = set()
        self.on_bulk = False


class SentLog:
    """All jobs that one executor knows of in this session, and their newest tranches."""

    def __init__(self) -> None:
        self.tranches: TrancheWindow[None] = TrancheWindow()
        self._jobs: dict[JobId, SentJob] = {}

    def job(self, job: JobId) -> SentJob | None:
        """What was sent of a job; None if nothing."""
        return self._jobs.get(job)

    def open(self, job: JobId) -> SentJob:
        """The manifest is being sent."""
        sent = self._jobs[job] = SentJob()
        return sent

    def forget(self, job: JobId) -> bool:
        """The job ended; whether the executor had heard of it."""
        self.tranches.forget(job)
        return self._jobs.pop(job, None) is not None
