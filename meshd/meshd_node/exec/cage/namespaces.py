"""Cages in namespaces without any other program: made by the kernel's own calls, for systems that lack bubblewrap.

Three processes: the one that asks; its child, which makes the namespaces and watches; and that one's child, the first
process in them, which makes the root, crosses the threshold and becomes the cage's program. Each dies with the one
before.
"""

import ctypes
import os
import select
import socket
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

from meshd_node.exec.cage import forked, inside, mounts, threshold
from meshd_node.exec.cage.spec import Apart, CageSpec, Maker, checked_user
from meshd_node.exec.cage.threshold import Threshold, die_with_parent

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
# Of mounts, host names, IPC, processes, networks and cgroups.
_NAMESPACES: Final = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000 | 0x02000000
_USERS: Final = 0x10000000


@dataclass(frozen=True, slots=True)
class Namespaces:
    """One way to make them: in a namespace of users as well, which everybody may, or by root, who gives itself up."""

    name: str
    own_users: bool

    def start(self, spec: CageSpec) -> "subprocess.Popen[bytes]":
        """Start a cage; see `Maker`."""
        uid = checked_user(spec)
        steps = Threshold(spec.limits, uid, inside.READABLE, inside.WRITABLE, Apart.NAMESPACES)
        enter = partial(_enter, spec, steps, self.own_users, os.getpid())
        return forked.start(spec, partial(threshold.ending_on_error, enter), cwd="/", scratch=inside.SCRATCH)

    def clear(self, spec: CageSpec) -> None:
        """Nothing is left of such a cage: its processes end with the first, its scratch folder was in memory."""


def namespaces() -> list[Maker]:
    """The variant for this process's user."""
    if os.geteuid() == 0:
        return [Namespaces("namespaces-by-root", own_users=False)]
    return [Namespaces("namespaces", own_users=True)]


def _enter(spec: CageSpec, steps: Threshold, own_users: bool, asker: int) -> None:
    """Become the first process of the cage; only that one returns."""
    if own_users:
        _unshare_users()
    _unshare(_NAMESPACES)
    die_with_parent(asker)
    alive, watching = os.pipe()
    first = os.fork()
    if first:
        _watch(first, watching)
    os.close(watching)
    _die_with_watcher(alive)
    os.setsid()
    mounts.enter(spec)
    socket.sethostname(inside.HOST_NAME)
    steps.cross()


def _unshare_users() -> None:
    """Make a namespace of users with this one in it, as nobody."""
    uid, gid = os.getuid(), os.getgid()
    _unshare(_USERS)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{inside.NOBODY} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{inside.NOBODY} {gid} 1", encoding="ascii")


def _unshare(kinds: int) -> None:
    if _LIBC.unshare(ctypes.c_int(kinds)):
        code = ctypes.get_errno()
        raise OSError(code, f"namespaces can not be made: {os.strerror(code)}")


def _watch(first: int, watching: int) -> NoReturn:
    """Wait for the cage's end, and end as it did."""
    os.dup2(watching, 3)
    os.closerange(4, 1 << 16)
    _, status = os.waitpid(first, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _die_with_watcher(alive: int) -> None:
    """From inside, the watcher has no number to look at: that it lives is seen by what it holds open."""
    threshold.wish_to_die_with_parent()
    if select.select([alive], [], [], 0)[0]:
        os._exit(1)
    os.close(alive)
