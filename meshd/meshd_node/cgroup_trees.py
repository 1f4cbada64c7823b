"""The trees of cgroups that are mounted, and where in them this process stands: versions 1 and 2, and both at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

# The controllers that bound work: the others are of no use here.
CONTROLLERS: Final = frozenset({"cpu", "memory", "pids"})


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


def text_of(file: Path) -> str:
    """A file's text; empty if it can not be read: a controller that is not enabled has no files."""
    try:
        return file.read_text("ascii", errors="replace").strip()
    except OSError:
        return ""


def count_of(file: Path, name: str) -> int:
    """What a file of lines `NAME COUNT` says of a name; 0 where it says nothing."""
    for line in text_of(file).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _memberships(root: Path) -> Iterator[tuple[str, str]]:
    """(controller, path) by `/proc/self/cgroup`; version 2 has the empty name."""
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(","):
            yield name, path


def _mounts(root: Path) -> Iterator[tuple[frozenset[str], Path, str]]:
    """(controllers, mount point, which cgroup is mounted there) by `/proc/self/mountinfo`."""
    for line in text_of(root / "proc/self/mountinfo").splitlines():
        left, dash, right = line.partition(" - ")
        fields, types = left.split(), right.split()
        if not dash or len(fields) < 5 or len(types) < 3:
            continue
        mount = root / fields[4].lstrip("/")
        if types[0] == "cgroup2":
            yield frozenset(), mount, fields[3]
        elif types[0] == "cgroup" and (controllers := CONTROLLERS.intersection(types[2].split(","))):
            yield frozenset(controllers), mount, fields[3]


def _below(path: str, mounted: str) -> PurePosixPath:
    """The part of a cgroup's path below what is mounted; a container often sees only its own part."""
    try:
        return PurePosixPath(path).relative_to(mounted)
    except ValueError:
        return PurePosixPath()
