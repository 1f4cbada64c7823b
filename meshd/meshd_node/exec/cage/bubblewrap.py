"""Cages made by bubblewrap, a small program that many systems have and many people read.

Three variants, for what kernels and services allow differs: see `bubblewraps`.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd_node.exec.cage import inside, threshold
from meshd_node.exec.cage.closure import folders_above, outermost
from meshd_node.exec.cage.spec import Apart, CageSpec, Maker, checked_user
from meshd_node.exec.cage.threshold import Threshold

_NAMESPACES: Final = ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
_USERS: Final = ("--unshare-user", "--uid", str(inside.NOBODY), "--gid", str(inside.NOBODY))
# It dies with us, and has no terminal to type into.
_BOUND: Final = ("--die-with-parent", "--new-session", "--hostname", inside.HOST_NAME, "--cap-drop", "ALL")
# The program is the first process of its namespace: all others end with it.
_FIRST: Final = "--as-pid-1"
# Just enough to become the cage's user at its threshold, and lost by that. The program is not the first process then:
# bubblewrap has given up its capabilities by its end, and root without any can not kill another user's process, which
# is how the kernel ends a child with its parent. Its own first process it can.
_MAY_BECOME_ANOTHER: Final = tuple(
    word for name in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP") for word in ("--cap-add", name)
)


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """One way to call it."""

    name: str
    program: str
    # A namespace of users: the cage's user is nobody of the host, even where a process would come to be root in it.
    # Without it root makes the namespaces, and gives itself up inside; that needs no way in for others to our files.
    own_users: bool
    # That no further namespace of users can be made in it, by its counter; our filter of syscalls forbids it as well.
    last_users: bool = False

    def start(self, spec: CageSpec) -> "subprocess.Popen[bytes]":
        """Start a cage; see `Maker`."""
        uid = checked_user(spec)
        before = uid if self.own_users else None
        return subprocess.Popen(  # noqa: S603  # a program of the system, arguments of ours
            self._command(spec, None if self.own_users else uid),
            env={**spec.environ, **inside.ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=spec.stderr,
            cwd="/",
            pass_fds=spec.pass_fds,
            start_new_session=True,  # who stops the daemon from a terminal does not stop this
            user=before,
            group=before,
            extra_groups=None if before is None else [],
        )

    def clear(self, spec: CageSpec) -> None:
        """Nothing is left of such a cage: its processes end with the first, its scratch folder was in memory."""

    def _command(self, spec: CageSpec, uid: int | None) -> list[str]:
        users = (
            _MAY_BECOME_ANOTHER if not self.own_users else (_FIRST, *_USERS, *(["--disable-userns"] * self.last_users))
        )
        steps = Threshold(spec.limits, uid, inside.READABLE, inside.WRITABLE, Apart.NAMESPACES)
        files = [*_files(spec), *_devices(spec), *_scratch(spec)]
        inner = threshold.command(steps, spec.argv)
        return [self.program, *_NAMESPACES, *_BOUND, *users, *files, "--remount-ro", "/", "--", *inner]


def bubblewraps() -> list[Maker]:
    """The variants that could work here, best first; none where it is not installed.

    `--disable-userns` wants a /proc/sys that can be written, and version 0.8. Where the kernel keeps users from making
    namespaces, or an interpreter is in root's home, root makes them and gives itself up inside.
    """
    program = shutil.which("bwrap", path=os.defpath)
    if program is None:
        return []
    variants: list[Maker] = [
        Bubblewrap("bubblewrap", program, own_users=True, last_users=True),
        Bubblewrap("bubblewrap-nested-users", program, own_users=True),
    ]
    if os.geteuid() == 0:
        variants.append(Bubblewrap("bubblewrap-by-root", program, own_users=False))
    return variants


def _files(spec: CageSpec) -> Iterator[str]:
    """What is seen of the host. Folders on the way would be made for their owner alone, who may be another."""
    paths = [path for path in outermost(spec.read_only) if os.path.lexists(path)]
    for folder in folders_above(paths):
        yield from ("--perms", "0755", "--dir", str(folder))
    for path in paths:
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        else:
            yield from ("--ro-bind", str(path), str(path))


def _devices(spec: CageSpec) -> Iterator[str]:
    yield from ("--proc", "/proc", "--dev", "/dev")
    paths = [path for path in spec.devices if path.exists()]
    for folder in folders_above(paths):
        if folder != Path("/dev"):
            yield from ("--perms", "0755", "--dir", str(folder))
    for path in paths:
        yield from ("--dev-bind", str(path), str(path))
    yield from ("--perms", "1777", "--size", str(spec.limits.scratch_bytes), "--tmpfs", "/dev/shm")  # noqa: S108
    yield from ("--remount-ro", "/dev")


def _scratch(spec: CageSpec) -> Iterator[str]:
    """Written by the cage's user, which is not always the one that mounts it; nobody else is there to see it."""
    yield from ("--perms", "1777", "--size", str(spec.limits.scratch_bytes), "--tmpfs", str(inside.SCRATCH))
    yield from ("--chdir", str(inside.SCRATCH))
