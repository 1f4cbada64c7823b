"""What the cgroups above this process leave to it, CPU quota and memory: versions 1 and 2, and the two side by side."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Version 1 writes "no limit" as the largest number of whole pages that fits in 63 bits.
_V1_UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted tree of cgroups. `controllers` is empty for version 2, which has them all."""

    controllers: frozenset[str]
    mount: Path
    own: Path

    @property
    def unified(self) -> bool:
        """Whether this is version 2."""
        return not self.controllers

    def levels(self) -> Iterator[Path]:
        """The process's own cgroup and all above it that can be seen: a limit on any of them binds."""
        yield self.own
        for folder in self.own.parents:
            if not folder.is_relative_to(self.mount):
                return
            yield folder


def hierarchies(root: Path) -> list[Hierarchy]:
    """Where this process stands in each tree that is mounted; empty where there are none."""
    memberships = dict(_memberships(root))
    found = []
    for controllers, mount, mounted in _mounts(root):
        path = memberships.get(next(iter(controllers), ""))
        if path is not None:
            found.append(Hierarchy(controllers, mount, mount / _below(path, mounted)))
    return found


def cpu_quota(root: Path) -> float:
    """CPUs that the tightest quota leaves; infinity without one."""
    return min((_quota(tree, folder) for tree in _trees(root, "cpu") for folder in tree.levels()), default=math.inf)


def memory_left(root: Path) -> float:
    """Bytes that may still be taken before the tightest limit; infinity without one.

    File pages that nobody uses are given back under pressure and count as free, as they do in `MemAvailable`.
    """
    trees = _trees(root, "memory")
    return min((_memory_left(tree, folder) for tree in trees for folder in tree.levels()), default=math.inf)


def _trees(root: Path, controller: str) -> list[Hierarchy]:
    return [tree for tree in hierarchies(root) if tree.unified or controller in tree.controllers]


def _memberships(root: Path) -> Iterator[tuple[str, str]]:
    """(controller, path) by `/proc/self/cgroup`; version 2 has the empty name."""
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(","):
            yield name, path


def _mounts(root: Path) -> Iterator[tuple[frozenset[str], Path, str]]:
    """(controllers, mount point, which cgroup is mounted there) by `/proc/self/mountinfo`."""
    for line in _lines(root / "proc/self/mountinfo"):
        left, dash, right = line.partition(" - ")
        fields, types = left.split(), right.split()
        if not dash or len(fields) < 5 or len(types) < 3:
            continue
        mount = root / fields[4].lstrip("/")
        if types[0] == "cgroup2":
            yield frozenset(), mount, fields[3]
        elif types[0] == "cgroup" and (controllers := {"cpu", "memory"}.intersection(types[2].split(","))):
            yield frozenset(controllers), mount, fields[3]


def _below(path: str, mounted: str) -> PurePosixPath:
    """The part of a cgroup's path below what is mounted; a container often sees only its own part."""
    try:
        return PurePosixPath(path).relative_to(mounted)
    except ValueError:
        return PurePosixPath()


def _quota(tree: Hierarchy, folder: Path) -> float:
    if tree.unified:
        quota, _, period = _text(folder / "cpu.max").partition(" ")
    else:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    # "max" and -1 both mean that there is none; neither is decimal.
    if not (quota.isdecimal() and period.isdecimal()) or int(period) == 0:
        return math.inf
    return int(quota) / int(period)


def _memory_left(tree: Hierarchy, folder: Path) -> float:
    limit_name, usage_name, idle_name = (
        ("memory.max", "memory.current", "inactive_file")
        if tree.unified
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    limit, usage = _text(folder / limit_name), _text(folder / usage_name)
    if not limit.isdecimal() or int(limit) >= _V1_UNLIMITED:
        return math.inf
    used = int(usage) if usage.isdecimal() else 0
    return max(0, int(limit) - max(0, used - _stat(folder / "memory.stat", idle_name)))


def _stat(file: Path, name: str) -> int:
    for line in _lines(file):
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _lines(file: Path) -> list[str]:
    return _text(file).splitlines()


def _text(file: Path) -> str:
    """A file's text; empty if it can not be read: a controller that is not enabled has no files."""
    try:
        return file.read_text("ascii", errors="replace").strip()
    except OSError:
        return ""
