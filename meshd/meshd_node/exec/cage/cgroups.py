"""Groups of processes with bounds that the kernel keeps for all of them together: memory, processes, processor time.

Both versions of cgroups, alone and side by side: a group is one folder in each tree that bounds something. Nothing
here waits, and one thread uses it.
"""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd_node.cgroup_trees import count_of, text_of
from meshd_node.errors import CageError
from meshd_node.exec.cage.delegation import Base, make_bases, remove_tree

# Quotas are shares of this. Longer ones let a group that has used its share stand still for longer.
_PERIOD_US: Final = 100_000
# The kernel takes no smaller quota.
_QUOTA_US_MIN: Final = 1_000
_V1_MEMORY: Final = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
# Where nothing bounds processes a fork bomb may be faster than we are; it is killed again by whoever removes the group.
_ROUNDS: Final = 64
# In version 2 a group with groups below it holds no processes of its own: they live in this one.
_OWN: Final = "own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a group may use; 0 is no bound."""

    memory_bytes: int = 0
    pids: int = 0
    cpu_milli: int = 0


class Group:
    """Processes that are bounded, counted and ended together. Each process that they start is in it, too."""

    def __init__(self, parts: tuple[Base, ...]) -> None:
        self._parts = parts

    def make(self, name: str, *, memory_bytes: int = 0, pids: int = 0, cpu_milli: int = 0) -> "Group":
        """Make a group within this one, whose bounds hold besides these; it has none within itself."""
        bounds = Bounds(memory_bytes=memory_bytes, pids=pids, cpu_milli=cpu_milli)
        return Group(_make_all(self._parts, name, bounds, within=False))

    def add(self, pid: int) -> None:
        """Move a process here with all that came of it; `ProcessLookupError` if it is gone.

        Looked for after their parent has been moved, so that none is missed: what it makes later is made here.
        """
        for part in self._parts:
            (_place(part.folder) / "cgroup.procs").write_text(str(pid))
        for child in _children(pid):
            with suppress(ProcessLookupError):
                self.add(child)

    def processes(self) -> set[int]:
        """All processes here and in groups within, by their numbers outside of any cage."""
        files = (file for part in self._parts for file in _inner_files(part.folder, "cgroup.procs"))
        # 0 is a process that our own pid namespace does not show.
        return {int(pid) for file in files for pid in text_of(file).split()} - {0}

    def kill(self) -> None:
        """End every process here and in groups within, and let none of them make another."""
        for part in self._parts:
            if part.unified and (part.folder / "cgroup.kill").exists():
                (part.folder / "cgroup.kill").write_text("1")
                return
        self._kill_one_by_one()

    def oom_kills(self) -> int:
        """How many processes of this very group, not of those within, were killed for want of memory."""
        for part in self._parts:
            if "memory" in part.controllers:
                name = "memory.events" if part.unified else "memory.oom_control"
                return count_of(_place(part.folder) / name, "oom_kill")
        return 0

    def throttled(self) -> int:
        """In how many periods this group had used its share of the processors before the end."""
        return max((count_of(part.folder / "cpu.stat", "nr_throttled") for part in self._parts), default=0)

    def remove(self) -> bool:
        """Remove it and those within; False while there are processes in it: they die some ms after `kill`."""
        left = [part for part in self._parts if not remove_tree(part.folder)]
        return not left

    def _kill_one_by_one(self) -> None:
        for part in self._parts:
            if "pids" in part.controllers:
                (part.folder / "pids.max").write_text("0")
        killed: set[int] = set()
        for _ in range(_ROUNDS):
            found = self.processes() - killed
            if not found:
                return
            self._kill(found)
            killed |= found

    def _kill(self, pids: set[int]) -> None:
        """Send SIGKILL by descriptors of which it is known that they are of ours: numbers are used again."""
        with ExitStack() as stack:
            held = {}
            for pid in pids:
                with suppress(ProcessLookupError):
                    held[pid] = os.pidfd_open(pid)
                    stack.callback(os.close, held[pid])
            for pid in self.processes() & held.keys():
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(held[pid], signal.SIGKILL)


class Cgroups:
    """The groups of this process, and which controllers hold in them."""

    def __init__(self, bases: tuple[Base, ...]) -> None:
        self._bases = bases

    @classmethod
    def find(cls, root: Path = Path("/")) -> "Cgroups | None":
        """Make room for groups in every tree where that is allowed; None where there is none.

        Once in a process, and early: under systemd it moves all processes of the unit to a group below the unit's.
        """
        bases = make_bases(root)
        return cls(bases) if bases else None

    @property
    def controllers(self) -> frozenset[str]:
        """Of "memory", "pids" and "cpu" those that bound something."""
        return frozenset(name for base in self._bases for name in base.controllers)

    @property
    def text(self) -> str:
        """In words, for operators."""
        versions = " and ".join(sorted({"v2" if base.unified else "v1" for base in self._bases}))
        return f"cgroups {versions}: {', '.join(sorted(self.controllers))}"

    def make(self, name: str, *, memory_bytes: int = 0, pids: int = 0, cpu_milli: int = 0) -> Group:
        """Make a group for a cage; `CageError` if the system refuses."""
        bounds = Bounds(memory_bytes=memory_bytes, pids=pids, cpu_milli=cpu_milli)
        return Group(_make_all(self._bases, name, bounds, within=True))

    def close(self) -> None:
        """Remove all groups in which nothing runs."""
        for base in self._bases:
            remove_tree(base.folder)


def _make_all(parents: tuple[Base, ...], name: str, bounds: Bounds, *, within: bool) -> tuple[Base, ...]:
    """Make a folder in each tree, `within` which others can be made; all or none."""
    assert name not in ("", ".", "..", _OWN), name
    assert "/" not in name, name
    made: list[Base] = []
    try:
        for parent in parents:
            part = Base(parent.folder / name, parent.controllers, parent.unified)
            part.folder.mkdir()
            made.append(part)
            _bound(part, bounds)
            if within and part.unified:
                _hand_on(part)
    except OSError as error:
        for part in made:
            remove_tree(part.folder)
        raise CageError(f"a cgroup can not be made: {error}", "`meshd doctor` says which hold") from error
    return tuple(made)


def _hand_on(part: Base) -> None:
    (part.folder / _OWN).mkdir()
    for controller in sorted(part.controllers):
        (part.folder / "cgroup.subtree_control").write_text(f"+{controller}")


def _bound(part: Base, bounds: Bounds) -> None:
    if bounds.memory_bytes and "memory" in part.controllers:
        _bound_memory(part, bounds.memory_bytes)
    if bounds.pids and "pids" in part.controllers:
        (part.folder / "pids.max").write_text(str(bounds.pids))
    if bounds.cpu_milli and "cpu" in part.controllers:
        _bound_cpu(part, max(_QUOTA_US_MIN, bounds.cpu_milli * _PERIOD_US // 1000))


def _bound_memory(part: Base, size: int) -> None:
    """Memory and swap together: work that is swapped out slows everybody down."""
    limit, swap = ("memory.max", "memory.swap.max") if part.unified else _V1_MEMORY
    (part.folder / limit).write_text(str(size))
    with suppress(OSError):  # kernels without swap have no such file
        (part.folder / swap).write_text("0" if part.unified else str(size))


def _bound_cpu(part: Base, quota_us: int) -> None:
    if part.unified:
        (part.folder / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
        return
    (part.folder / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
    try:
        (part.folder / "cpu.cfs_quota_us").write_text(str(quota_us))
    except OSError as error:
        # Version 1 takes no quota above that of a group around it, which then is the one that binds.
        if error.errno != errno.EINVAL:
            raise


def _place(folder: Path) -> Path:
    """Where the processes of a group live."""
    own = folder / _OWN
    return own if own.exists() else folder


def _inner_files(folder: Path, name: str) -> Iterator[Path]:
    yield folder / name
    yield from folder.rglob(f"*/{name}")


def _children(pid: int) -> list[int]:
    """The children of all threads of a process; none if it is gone."""
    return [int(child) for file in _tasks(pid) for child in text_of(file / "children").split()]


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
