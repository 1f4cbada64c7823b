"""The newest tranches that an executor keeps of one owner, counted alike at both ends of a session."""

from collections import OrderedDict, defaultdict
from typing import Generic, TypeVar

from meshd_protocol.ids import JobId
from meshd_protocol.limits import DIGESTS_KEPT, TRANCHE_WEIGHT

T = TypeVar("T")


class TrancheWindow(Generic[T]):
    """Tranches of all jobs in the order in which they were sent, the oldest dropped beyond `DIGESTS_KEPT`.

    Each counts as its digests and `TRANCHE_WEIGHT` more, so that many small ones cost no more than few large ones. The
    owner's copy predicts the executor's: both see the same tranches and ends of jobs in the same order, on the control
    connection.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[JobId, int], tuple[int, T]] = OrderedDict()
        self._of_job: defaultdict[JobId, set[int]] = defaultdict(set)
        self._weight = 0

    def __contains__(self, tranche: tuple[JobId, int]) -> bool:
        return tranche in self._kept

    def get(self, job: JobId, sequence: int) -> T | None:
        """What was put for this tranche; None if it was dropped or never came."""
        entry = self._kept.get((job, sequence))
        return None if entry is None else entry[1]

    def put(self, job: JobId, sequence: int, digests: int, value: T) -> None:
        """Add the newest tranche; one that is here already becomes the newest."""
        if (job, sequence) in self._kept:
            self._drop(job, sequence)
        weight = digests + TRANCHE_WEIGHT
        self._kept[job, sequence] = (weight, value)
        self._of_job[job].add(sequence)
        self._weight += weight
        while self._weight > DIGESTS_KEPT:
            self._drop(*next(iter(self._kept)))

    def forget(self, job: JobId) -> None:
        """The job ended: drop all its tranches."""
        for sequence in list(self._of_job.get(job, ())):
            self._drop(job, sequence)

    def _drop(self, job: JobId, sequence: int) -> None:
        self._weight -= self._kept.pop((job, sequence))[0]
        self._of_job[job].remove(sequence)
        if not self._of_job[job]:
            del self._of_job[job]
