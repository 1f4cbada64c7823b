"""What a cage is made from, and what makes one. Spec: 12-worker.md."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from meshd_node.errors import CageError

# Nobody hands these ids out, and live cages (numbered in turn) are never so far apart that two of them share one.
_UID_FIRST: Final = 2_000_000_000
_UIDS: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that hold in a cage; each process has `memory_bytes`, `open_files` and `file_bytes` for itself."""

    # Address space of each process (RLIMIT_AS). 0 is no bound, for where a cgroup bounds memory: runtimes that reserve
    # much and touch little (wasm, CUDA) can not live with this one.
    memory_bytes: int = 0
    # Processes and threads of the whole cage; where the kernel counts by user, of all that this user runs.
    pids: int
    # Size of the scratch folder where a maker mounts one, and of /dev/shm. Both are memory, and count as the cage's.
    scratch_bytes: int
    open_files: int
    file_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CageSpec:
    """One cage: what runs in it, and all that it can reach."""

    # Of all cages that live, this one's alone.
    number: int
    argv: tuple[str, ...]
    # Nothing else of the environment reaches the cage but HOME, TMPDIR and PWD: the scratch folder as seen inside.
    environ: Mapping[str, str]
    # Seen at the same path inside; a symbolic link is made anew as it is. Those that are not there are left out.
    read_only: tuple[Path, ...]
    # Device files that may be read and written, such as those of a GPU.
    devices: tuple[Path, ...] = ()
    limits: Limits
    # A folder of this cage alone for makers that can not mount one: `start` makes it, `clear` removes it. Its parent
    # is there and may be entered by everybody (0711).
    scratch: Path
    # Kept under the same numbers; all others are closed.
    pass_fds: tuple[int, ...] = ()
    # The user of the host that the cage runs as: `user_of(number)` where the warden is root, None where it is not.
    uid: int | None = None
    # A descriptor for what the maker and the program say, or `subprocess.DEVNULL`, or `subprocess.PIPE`.
    stderr: int = subprocess.DEVNULL


class Apart(Enum):
    """What tells a cage's processes from those of the host, and so how much else has to be forbidden to them."""

    NAMESPACES = "namespaces"  # files, network, IPC and processes are the cage's own
    USER = "user"  # all of those are the host's, but none belongs to the cage's user
    NOTHING = "nothing"  # they have the daemon's own user


class Maker(Protocol):
    """A way to make cages."""

    @property
    def name(self) -> str:
        """What operators read, and the key under which a proof is kept."""
        ...

    def start(self, spec: CageSpec) -> "subprocess.Popen[bytes]":
        """Start a cage; its process is `argv`, or watches over it and ends as it does.

        To be called from the main thread of a process without others: the whole cage dies with that thread. Killing
        the process that is returned ends the cage. A cage that can not be made ends with a code above 0 and a line on
        `stderr`, or raises `CageError` or `OSError` when that is known at once.
        """
        ...

    def clear(self, spec: CageSpec) -> None:
        """After the end of the process: end what outlived it, remove the scratch folder. Never fails."""
        ...


def user_of(number: int) -> int | None:
    """The user that a cage runs as: one of its own if this process is root, else none but the user that this is."""
    return _UID_FIRST + number % _UIDS if os.geteuid() == 0 else None


def checked_user(spec: CageSpec) -> int | None:
    """The user to become, if any; `CageError` if the cage would run as root, whom no namespace holds for sure.

    The kernel knows root by its number on the host: root without capabilities still owns /proc/sys and most devices.
    """
    if spec.uid == 0 or (spec.uid is None and os.geteuid() == 0):
        raise CageError("a cage can not run as root: give it a user of its own (user_of)")
    if spec.uid is not None and os.geteuid() != 0:
        raise CageError(f"only root can run a cage as user {spec.uid}: leave the user out")
    return spec.uid
