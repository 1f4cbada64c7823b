"""The pickled functions of the jobs that this node runs, each once, until the last job that calls it has ended."""

from typing import Final

from meshd_protocol.errors import NotAllowed
from meshd_protocol.ids import Digest, JobId, NodeId

# Four of the largest functions, or thousands of usual ones, for each owner.
FUNCTION_BYTES_OF_OWNER_MAX: Final = 256 << 20


class FunctionStore:
    """Functions by digest. Two jobs that ship the same function share it."""

    def __init__(self) -> None:
        self._data: dict[Digest, bytes] = {}
        self._users: dict[Digest, int] = {}
        self._jobs: dict[tuple[NodeId, JobId], set[Digest]] = {}
        self._owner_bytes: dict[NodeId, int] = {}

    def put(self, owner: NodeId, job: JobId, digest: Digest, data: bytes) -> None:
        """Keep a function of a job; raise `NotAllowed` if that owner fills the store."""
        mine = self._jobs.setdefault((owner, job), set())
        if digest in mine:
            return
        held = self._owner_bytes.get(owner, 0) + len(data)
        if held > FUNCTION_BYTES_OF_OWNER_MAX:
            raise NotAllowed(f"functions of {held} bytes, {FUNCTION_BYTES_OF_OWNER_MAX} are kept for one owner")
        self._owner_bytes[owner] = held
        mine.add(digest)
        self._data[digest] = data
        self._users[digest] = self._users.get(digest, 0) + 1

    def has(self, owner: NodeId, job: JobId, digest: Digest) -> bool:
        """Whether this job's function is here."""
        return digest in self._jobs.get((owner, job), ())

    def get(self, digest: Digest) -> bytes:
        """A function that some running job has."""
        return self._data[digest]

    def forget(self, owner: NodeId, job: JobId) -> None:
        """The job ended, or its owner is gone."""
        for digest in self._jobs.pop((owner, job), ()):
            self._owner_bytes[owner] -= len(self._data[digest])
            self._users[digest] -= 1
            if not self._users[digest]:
                del self._users[digest], self._data[digest]
        if not self._owner_bytes.get(owner):
            self._owner_bytes.pop(owner, None)
