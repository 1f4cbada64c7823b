"""The pickled functions of the jobs that this node runs, each once, until the last job that calls it has ended."""

from dataclasses import dataclass, field
from typing import Final

from meshd_node.core.submitter import Submitter
from meshd_protocol.errors import RemoteProtocolError
from meshd_protocol.ids import Digest, JobId

# Four of the largest functions, or thousands of usual ones, for each user of each node.
FUNCTION_BYTES_OF_SUBMITTER_MAX: Final = 256 << 20
# What a function costs here beside its bytes (its digest, two objects, entries of three tables): without it, 60
# million functions of four bytes were within the bound.
FUNCTION_OVERHEAD: Final = 512


class TooManyFunctions(RemoteProtocolError):
    """One user's running jobs ship more functions than are kept for one. Others' are not concerned."""


@dataclass(slots=True)
class _Shipped:
    """The functions of one job, and who is charged for them."""

    submitter: Submitter
    cost: int = 0
    digests: set[Digest] = field(default_factory=set)


class FunctionStore:
    """Functions by digest. Two jobs that ship the same function share it, and each is charged for it."""

    def __init__(self) -> None:
        self._data: dict[Digest, bytes] = {}
        self._users: dict[Digest, int] = {}
        self._jobs: dict[JobId, _Shipped] = {}
        self._charged: dict[Submitter, int] = {}

    def put(self, submitter: Submitter, job: JobId, digest: Digest, data: bytes) -> int:
        """Keep a function of a job; return what it is charged for; raise `TooManyFunctions`, having kept nothing."""
        if self.has(job, digest):
            return 0
        cost = len(data) + FUNCTION_OVERHEAD
        charged = self._charged.get(submitter, 0) + cost
        if charged > FUNCTION_BYTES_OF_SUBMITTER_MAX:
            raise TooManyFunctions(
                f"functions of {charged} bytes in one user's running jobs, {FUNCTION_BYTES_OF_SUBMITTER_MAX} are kept: "
                "pass large data as arguments or in files"
            )
        self._charged[submitter] = charged
        shipped = self._jobs.setdefault(job, _Shipped(submitter))
        shipped.cost += cost
        shipped.digests.add(digest)
        self._data[digest] = data
        self._users[digest] = self._users.get(digest, 0) + 1
        return cost

    def has(self, job: JobId, digest: Digest) -> bool:
        """Whether this job's function is here."""
        shipped = self._jobs.get(job)
        return shipped is not None and digest in shipped.digests

    def get(self, digest: Digest) -> bytes:
        """A function that some running job has."""
        return self._data[digest]

    def find(self, digest: Digest) -> bytes | None:
        """The same, or None if no running job has it."""
        return self._data.get(digest)

    def forget(self, job: JobId) -> int:
        """The job ended, or its owner is gone; return what it was charged for."""
        shipped = self._jobs.pop(job, None)
        if shipped is None:
            return 0
        for digest in shipped.digests:
            self._users[digest] -= 1
            if not self._users[digest]:
                del self._users[digest], self._data[digest]
        self._charged[shipped.submitter] -= shipped.cost
        if not self._charged[shipped.submitter]:
            del self._charged[shipped.submitter]
        return shipped.cost
