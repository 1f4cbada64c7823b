"""Who builds and who uses an environment, among all daemons of a machine: a file with a lock of the kernel's."""

import fcntl
import os
from pathlib import Path


class Guard:
    """One holder's lock on a file. It ends with the process, however that ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, *, alone: bool) -> "Guard | None":
        """Take it at once, shared with other users or alone; None if somebody is in the way."""
        guard = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if guard._lock(fcntl.LOCK_EX if alone else fcntl.LOCK_SH) and guard._is_of_the_file():
            return guard
        guard.release()
        return None

    def share(self) -> bool:
        """Let other users in; False if another builder was faster."""
        return self._lock(fcntl.LOCK_SH) and self._is_of_the_file()

    def touch(self) -> None:
        """Note that the environment is used now."""
        os.utime(self._descriptor)

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)

    def _lock(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_of_the_file(self) -> bool:
        """Whether the file that was locked still is the one that others find: whoever removed it held it, too."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))
