"""Which node owns a job that lasts: told to the directory while the job is open."""

from collections.abc import Callable
from typing import Final, NoReturn, Protocol

import trio

from meshd_node.core.owner.job import FIRST_EPOCH
from meshd_node.core.owner.summaries import JobSummary
from meshd_protocol.ids import JobId

LOOK_S: Final = 10.0
# Storing a record costs some 60 messages, and a publisher may have 64 of them at one node, three for each job.
TOLD_MAX: Final = 16


class Publisher(Protocol):
    """Where it is told."""

    def own(self, job: JobId, epoch: int) -> None:
        """Publish that this node owns a job."""
        ...

    def disown(self, job: JobId) -> None:
        """It has ended, or another node owns it."""
        ...


class OpenJobs:
    """Looks at the jobs from time to time: one that has ended by the next look was never worth a word."""

    def __init__(self, jobs: Callable[[], list[JobSummary]], publisher: Publisher) -> None:
        self._jobs = jobs
        self._publisher = publisher
        self._open: set[JobId] = set()
        self._told: set[JobId] = set()

    async def run(self) -> NoReturn:
        """Serve until cancelled."""
        while True:
            await trio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Tell of jobs that were open at the last look as well; of the newest, where there are too many."""
        were_open = self._open
        lasting = [each.job for each in self._jobs() if each.ended is None]
        self._open = set(lasting)
        wanted = [job for job in lasting if job in were_open][-TOLD_MAX:]
        for job in sorted(self._told.difference(wanted)):
            self._publisher.disown(job)
        for job in wanted:
            if job not in self._told:
                self._publisher.own(job, FIRST_EPOCH)
        self._told = set(wanted)
