"""Processes by their user: what is all that tells a cage's from others where there are no namespaces."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from meshd_node.exec.cage.spec import Limits


def end_all_of(uid: int) -> None:
    """Kill every process of a user; only root may."""
    child = os.fork()
    if child == 0:
        with suppress(OSError):
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)  # all that this user may kill: its own, but for this process
        os._exit(0)
    os.waitpid(child, 0)


def with_room_for_others(limits: Limits, uid: int | None) -> Limits:
    """The limits for a cage that runs as `uid`; one without a user of its own shares a count with its daemon's user."""
    return limits if uid is not None else replace(limits, pids=limits.pids + sum(_threads_of(os.getuid())))


def _threads_of(uid: int) -> Iterator[int]:
    """How many threads each process of a user has."""
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it ended
            if process.name.isdecimal() and process.stat().st_uid == uid:
                yield len(os.listdir(process / "task"))
