"""What keeps workers apart from the daemon until they are caged: another user where that is possible, and limits."""

import ctypes
import os
import resource
import site
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Each worker is a user of its own, who owns nothing: workers of two submitters can not touch each other. No system
# hands these ids out, and live workers (4,096 at most, numbered in turn) are never so far apart that two share one.
_UID_FIRST: Final = 2_000_000_000
_UIDS: Final = 1 << 16
_PR_SET_NO_NEW_PRIVS: Final = 38
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIMITS: Final = (
    (resource.RLIMIT_CORE, 0),  # a core file would hold the submitter's data
    (resource.RLIMIT_NOFILE, 1_024),
    (resource.RLIMIT_FSIZE, 1 << 30),  # for each file, until scratch space is bounded as a whole
)


@dataclass(frozen=True, slots=True)
class Isolation:
    """Whom workers run as: each as a user of its own, or all as the daemon's."""

    own_users: bool
    text: str


def choose() -> Isolation:
    """Another user if the daemon may give its rights away and that user can read the interpreter."""
    if os.geteuid() != 0:
        return Isolation(False, "not caged: processes with limits, as the daemon's own user")
    closed = next((path for path in _needed() if not _open_to_all(path)), None)
    if closed is not None:
        return Isolation(False, f"not caged: processes with limits, as root since others can not enter {closed}")
    return Isolation(True, "not caged: processes with limits, each as a user that owns nothing")


def user_of(worker: int) -> int:
    """The user that a worker is where workers have users of their own."""
    return _UID_FIRST + worker % _UIDS


def give_up_rights(uid: int | None) -> None:
    """Lower the limits and, with a `uid`, become that user for good. In a worker, before it reads anything."""
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for limit, value in _LIMITS:
        _, hard = resource.getrlimit(limit)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def _needed() -> list[Path]:
    """The folders from which a worker may import later."""
    packages = Path(__file__).resolve().parent.parent
    return [Path(sys.executable).resolve(), Path(sys.base_prefix), *map(Path, site.getsitepackages()), packages]


def _open_to_all(path: Path) -> bool:
    """Whether every user may enter all folders above a path. One that is not there is not needed: Debian names some."""
    try:
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))
    except FileNotFoundError:
        return True
    except OSError:
        return False
