"""What executors said of units that they differed on, kept for the submitter: the newest of each job, within bounds."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from meshd_node.core.owner.effects import Disagreement
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.limits import KIB, MIB
from meshd_protocol.messages.attempts import AttemptStatus

# A report without its values has at most 19 votes (limits.REPLICAS_MAX and OwnerConfig.copies_extra) of 100 bytes:
# 4,096 are 8 MB.
REPORTS_KEPT: Final = 4_096
JOB_REPORTS_KEPT: Final = 64
# Values of all jobs' reports together, of one job's, and the largest single one. A liar chooses how large its lies are.
VALUES_BYTES_KEPT: Final = MIB
JOB_VALUES_BYTES_KEPT: Final = 256 * KIB
VALUE_BYTES_KEPT: Final = 64 * KIB


@dataclass(frozen=True, slots=True)
class Said:
    """One result that executors sent. `value` None: it is too large to be kept here."""

    status: AttemptStatus
    size: int
    value: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """One unit's disagreement. `accepted` None: no quorum agreed."""

    job: JobId
    unit: int
    accepted: Digest | None
    votes: list[tuple[NodeId, Digest, bool]]
    said: dict[Digest, Said]

    @property
    def kept_bytes(self) -> int:
        """What its values cost."""
        return sum(len(said.value) for said in self.said.values() if said.value is not None)


class Reports:
    """The newest reports: each bound pushes the oldest out, a job's own bounds before those of all jobs."""

    def __init__(self) -> None:
        self._by_job: dict[JobId, deque[Report]] = {}
        self._in_order: dict[Report, None] = {}
        self._job_bytes: dict[JobId, int] = {}
        self._bytes = 0

    def add(self, disagreement: Disagreement) -> None:
        """Keep what a unit's executors said."""
        report = _report_of(disagreement)
        self._by_job.setdefault(report.job, deque()).append(report)
        self._in_order[report] = None
        self._count(report.job, report.kept_bytes)
        while self._too_much_of(report.job):
            self._drop(self._by_job[report.job][0])
        while len(self._in_order) > REPORTS_KEPT or self._bytes > VALUES_BYTES_KEPT:
            self._drop(next(iter(self._in_order)))

    def of(self, job: JobId) -> list[Report]:
        """What is kept of a job, oldest first."""
        return list(self._by_job.get(job, ()))

    def forget(self, job: JobId) -> None:
        """The job is over and was forgotten."""
        for report in self.of(job):
            self._drop(report)

    def _too_much_of(self, job: JobId) -> bool:
        return len(self._by_job[job]) > JOB_REPORTS_KEPT or self._job_bytes[job] > JOB_VALUES_BYTES_KEPT

    def _drop(self, report: Report) -> None:
        """Forget a report, which is its job's oldest."""
        of_job = self._by_job[report.job]
        oldest = of_job.popleft()
        assert oldest is report, "reports go in the order in which they came"
        del self._in_order[report]
        self._count(report.job, -report.kept_bytes)
        if not of_job:
            del self._by_job[report.job], self._job_bytes[report.job]

    def _count(self, job: JobId, size: int) -> None:
        self._job_bytes[job] = self._job_bytes.get(job, 0) + size
        self._bytes += size


def _report_of(disagreement: Disagreement) -> Report:
    room = JOB_VALUES_BYTES_KEPT
    said: dict[Digest, Said] = {}
    for digest, result in disagreement.results.items():
        size = len(result.value)
        kept = size <= min(room, VALUE_BYTES_KEPT)
        room -= size if kept else 0
        said[digest] = Said(result.status, size, bytes(result.value) if kept else None)
    return Report(disagreement.job, disagreement.index, disagreement.accepted_digest, disagreement.votes, said)
