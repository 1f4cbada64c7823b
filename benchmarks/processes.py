"""The processes below this one: what memory they hold, and that none is left behind."""

import ctypes
import signal
import time
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 5.0


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends, so that none gets out of sight."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "can not adopt orphans")


def below(pid: int | None = None) -> list[psutil.Process]:
    """All processes below the process `pid` (this one by default); none if it has ended."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def end_all_below(grace_s: float = _GRACE_S) -> None:
    """Let what is below end by itself for a while, then end it by its pid, and see that it has ended."""
    deadline = time.monotonic() + grace_s
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        left = below()
        if number is not None:
            for process in left:
                _signal(process, number)
        _, left = psutil.wait_procs(left, timeout=max(0.2, deadline - time.monotonic()))
        # What an ended process left behind has become ours meanwhile.
        if not left and not below():
            return
        deadline = time.monotonic() + grace_s


def pss_bytes(process: psutil.Process) -> int:
    """Its proportional share of resident memory: a page that n processes share counts 1/n for each."""
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{process.pid}/smaps_rollup has no line of PSS")


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
