"""Where this process may make groups of its own: below itself, where that part of a tree was given to it, or above."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd_node.cgroup_trees import CONTROLLERS, Hierarchy, hierarchies, text_of

# Where a delegated process lives itself: in version 2 only leaves hold processes, and systemd before 254 makes none.
_OWN: Final = "daemon"
# A process may be made while the others are moved; more often than this it is one that is not ours to move.
_TRIES: Final = 3
_PREFIX: Final = "meshd-"
# What systemd notes on a cgroup that it leaves to a unit (Delegate=): `user.` since 251, `trusted.` for root before.
_DELEGATED: Final = ("user.delegate", "trusted.delegate")


@dataclass(frozen=True, slots=True)
class Base:
    """A folder of ours in one tree, and the controllers that hold in the groups below it."""

    folder: Path
    controllers: frozenset[str]
    unified: bool


def make_bases(root: Path) -> tuple[Base, ...]:
    """Make a folder in every tree where that is allowed and bounds something; all that dead processes left goes."""
    places = [place for tree in hierarchies(root) for place in _places(tree)]
    bases = []
    for place in places:
        _sweep(place.folder)
        folder = place.folder / f"{_PREFIX}{os.getpid()}"
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            bases.append(Base(folder, _handed_on(folder, place), place.unified))
    return tuple(base for base in bases if base.controllers)


def remove_tree(folder: Path) -> bool:
    """Remove a group and all below it; False while there are processes in it."""
    try:
        for inner in _folders(folder):
            remove_tree(inner)
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _places(tree: Hierarchy) -> list[Base]:
    """The folder of a tree in which to make ours, if there is one."""
    if not tree.unified:
        return [Base(tree.own, tree.controllers, False)] if os.access(tree.own, os.W_OK) else []
    if _is_ours(tree):
        _vacate(tree.own)
    # Above our own, controllers are taken as they are: what others bound is not ours to change. The nearest wins.
    places = [Base(folder, _enabled(folder), True) for folder in tree.levels() if _may_hold(folder)]
    return sorted(places, key=lambda place: -len(place.controllers))[:1]


def _handed_on(folder: Path, place: Base) -> frozenset[str]:
    """The controllers that hold in the groups below a new folder of ours."""
    if place.unified:
        return _enable(folder, place.controllers)
    with suppress(OSError):  # before 5.11 a group's memory did not count as that of the group around it
        (folder / "memory.use_hierarchy").write_text("1")
    return place.controllers


def _is_ours(tree: Hierarchy) -> bool:
    """Whether all that is in our own group of version 2 is ours: by systemd's word, or as the root that we see."""
    if tree.own == tree.mount:
        return True
    for name in _DELEGATED:
        with suppress(OSError):
            if os.getxattr(tree.own, name) == b"1":
                return True
    return False


def _vacate(folder: Path) -> None:
    """Move all processes of a group to one below it, so that it can hand its controllers on."""
    inner = folder / _OWN
    for _ in range(_TRIES):
        # The true root, which has no type, may hold processes beside groups.
        if (folder / "cgroup.type").exists():
            with suppress(OSError):
                inner.mkdir(exist_ok=True)
                for pid in text_of(folder / "cgroup.procs").split():
                    with suppress(ProcessLookupError):
                        (inner / "cgroup.procs").write_text(pid)
        wanted = CONTROLLERS.intersection(text_of(folder / "cgroup.controllers").split())
        if _enable(folder, wanted) == wanted:
            return


def _may_hold(folder: Path) -> bool:
    """Whether we may make a group here and move processes to it from below."""
    return bool(_enabled(folder)) and os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _enable(folder: Path, wanted: frozenset[str]) -> frozenset[str]:
    """Hand controllers on to the groups below, each by itself: one that can not be does not cost the others."""
    for controller in sorted(wanted - _enabled(folder)):
        with suppress(OSError):
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
    return _enabled(folder) & wanted


def _enabled(folder: Path) -> frozenset[str]:
    return CONTROLLERS.intersection(text_of(folder / "cgroup.subtree_control").split())


def _sweep(folder: Path) -> None:
    """Remove groups of processes that are no more. What still runs in one stays: it is not known whose it is."""
    for left in _folders(folder):
        pid = left.name.removeprefix(_PREFIX)
        if left.name.startswith(_PREFIX) and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            remove_tree(left)


def _folders(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from [inner for inner in folder.iterdir() if inner.is_dir()]
