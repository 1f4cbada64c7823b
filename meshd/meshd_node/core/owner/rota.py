"""Whose turn it is: submitters in a ring, and each one's jobs in a ring of their own."""

from collections import deque

from meshd_node.core.owner.job import Job
from meshd_node.core.submitter import Submitter


class Rota:
    """Jobs with work to give out. A turn is one lease, so a huge job delays a small one by one lease a round."""

    def __init__(self) -> None:
        self._line: deque[Submitter] = deque()
        self._jobs: dict[Submitter, deque[Job]] = {}

    def take(self) -> Job | None:
        """Take out the job whose turn it is; its submitter goes to the end of the line."""
        if not self._line:
            return None
        submitter = self._line.popleft()
        jobs = self._jobs[submitter]
        job = jobs.popleft()
        if jobs:
            self._line.append(submitter)
        else:
            del self._jobs[submitter]
        return job

    def put(self, job: Job) -> None:
        """Line a job up."""
        jobs = self._jobs.get(job.submitter)
        if jobs is None:
            self._jobs[job.submitter] = deque((job,))
            self._line.append(job.submitter)
        else:
            jobs.append(job)

    def put_back(self, job: Job) -> None:
        """Give a job that could not use its turn the next one."""
        jobs = self._jobs.get(job.submitter)
        if jobs is None:
            self._jobs[job.submitter] = deque((job,))
            self._line.appendleft(job.submitter)
        else:
            jobs.appendleft(job)

    def remove(self, job: Job) -> None:
        """Take out a job whose turn it is not."""
        jobs = self._jobs[job.submitter]
        jobs.remove(job)
        if not jobs:
            del self._jobs[job.submitter]
            self._line.remove(job.submitter)

    def __len__(self) -> int:
        return sum(map(len, self._jobs.values()))
