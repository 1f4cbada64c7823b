"""Processes that came of a process: found, ended and waited for, orphans among them. Warden and zygotes use it."""

import ctypes
import os
import signal
import time
from collections.abc import Container
from contextlib import suppress
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the parent of whatever descendants' parents leave behind."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Ask to be killed when the parent's thread ends. Changing the user clears the wish."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def hide(hidden: bool) -> None:
    """Keep processes of the same user out of this one's memory and descriptors, or let them in again."""
    _LIBC.prctl(_PR_SET_DUMPABLE, 0 if hidden else 1)


def children() -> list[int]:
    """Processes whose parent this is; a subreaper is given those whose own parent ended."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as listed:
            return list(map(int, listed.read().split()))
    except OSError:
        return []


def kill(pid: int) -> None:
    """End a child that was not waited for yet, so that its pid is nobody else's, and its group."""
    kill_group(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_group(pid: int) -> None:
    """End the group that this process leads, if it leads one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill_orphans(known: Container[int]) -> bool:
    """End children that nobody here has made: what others left outside of the sessions of their own.

    Says whether there were any: each may leave others, and is waited for once it has died.
    """
    found = [pid for pid in children() if pid not in known and _session(pid) not in known]
    for pid in found:
        kill(pid)
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return bool(found)


def end_all(within_s: float) -> None:
    """End all children, and theirs as they become orphans; what the kernel holds for longer is left to it."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for pid in children():
            kill(pid)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
