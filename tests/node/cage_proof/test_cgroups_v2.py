"""Groups of version 2 in a tree of plain files: what is written where, in the situations that systems are in."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from meshd_node.errors import CageError
from meshd_node.exec.cage.cgroups import Cgroups

MIB = 1 << 20
MOUNT = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate"
OWN = f"meshd-{os.getpid()}"


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Path]:
    """A machine whose process is in the given group; every group above it hands memory and pids on."""

    def machine(own: str) -> Path:
        write(tmp_path / "proc/self/cgroup", f"0::{own}")
        write(tmp_path / "proc/self/mountinfo", MOUNT)
        mount = tmp_path / "sys/fs/cgroup"
        folder(mount, handed_on="cpu memory pids")
        for above in [*Path(own.lstrip("/")).parents][:-1]:
            folder(mount / above, handed_on="memory pids")
        if own != "/":
            folder(mount / own.lstrip("/"), handed_on="", typed=True, procs=f"{os.getpid()}\n17")
        return mount

    return machine


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def folder(path: Path, *, handed_on: str, typed: bool = False, procs: str = "") -> None:
    write(path / "cgroup.controllers", "cpuset cpu io memory hugetlb pids")
    write(path / "cgroup.subtree_control", handed_on)
    write(path / "cgroup.procs", procs)
    if typed:
        write(path / "cgroup.type", "domain")


@pytest.fixture
def delegated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemd notes on a unit with Delegate=."""
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"1")


@pytest.fixture
def handing_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups add what is written to their subtree_control, as the kernel's do, and a new one has that file."""
    write_text = Path.write_text

    def add(self: Path, text: str, encoding: str | None = None) -> int:
        if self.name == "cgroup.subtree_control" and text.startswith("+"):
            text = f"{self.read_text() if self.exists() else ''} {text.removeprefix('+')}".strip()
        return write_text(self, text, encoding)

    monkeypatch.setattr(Path, "write_text", add)


def test_a_unit_with_delegation_moves_all_its_processes_to_a_leaf_and_makes_groups_beside_it(
    machine: Callable[[str], Path], delegated: None, handing_on: None, tmp_path: Path
) -> None:
    """systemd before 254 leaves that to the unit: a group that holds processes hands no controller on."""
    mount = machine("/system.slice/meshd-exec.service")

    cgroups = Cgroups.find(tmp_path)

    unit = mount / "system.slice/meshd-exec.service"
    assert cgroups is not None
    assert cgroups.controllers == {"cpu", "memory", "pids"}
    assert cgroups.text == "cgroups v2: cpu, memory, pids"
    assert (unit / "daemon/cgroup.procs").read_text() == "17"  # the last that was written, one at a time
    assert set((unit / "cgroup.subtree_control").read_text().split()) == {"cpu", "memory", "pids"}
    assert set((unit / OWN / "cgroup.subtree_control").read_text().split()) == {"cpu", "memory", "pids"}


def test_a_group_that_was_not_given_to_us_keeps_its_processes_and_one_above_takes_ours(
    machine: Callable[[str], Path], handing_on: None, tmp_path: Path
) -> None:
    """Started from a terminal: the shell is in the same group and is not ours to move."""
    mount = machine("/user.slice/session-1.scope")

    cgroups = Cgroups.find(tmp_path)

    assert cgroups is not None
    assert not (mount / "user.slice/session-1.scope/daemon").exists()
    assert cgroups.controllers == {"cpu", "memory", "pids"}
    assert (mount / OWN).is_dir(), "the group with the most controllers, and of those the nearest"


def test_bounds_of_cage_and_worker_are_written_in_the_kernels_words(
    machine: Callable[[str], Path], delegated: None, handing_on: None, tmp_path: Path
) -> None:
    mount = machine("/system.slice/meshd-exec.service")
    cgroups = Cgroups.find(tmp_path)
    assert cgroups is not None

    cage = cgroups.make("cage-1", memory_bytes=512 * MIB, pids=64, cpu_milli=1500)
    worker = cage.make("worker-1", memory_bytes=64 * MIB, pids=8)
    cage.add(os.getpid())
    worker.add(os.getpid())

    folder = mount / "system.slice/meshd-exec.service" / OWN / "cage-1"
    assert (folder / "memory.max").read_text() == str(512 * MIB)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "pids.max").read_text() == "64"
    assert (folder / "cpu.max").read_text() == "150000 100000"
    assert set((folder / "cgroup.subtree_control").read_text().split()) == {"cpu", "memory", "pids"}
    assert (folder / "own/cgroup.procs").read_text() == str(os.getpid()), "only leaves hold processes"
    assert (folder / "worker-1/cgroup.procs").read_text() == str(os.getpid())
    assert (folder / "worker-1/memory.max").read_text() == str(64 * MIB)
    assert not (folder / "worker-1/cpu.max").exists(), "no bound was asked for"


def test_kills_for_memory_are_read_where_the_processes_live(
    machine: Callable[[str], Path], delegated: None, handing_on: None, tmp_path: Path
) -> None:
    mount = machine("/system.slice/meshd-exec.service")
    cgroups = Cgroups.find(tmp_path)
    assert cgroups is not None
    cage = cgroups.make("cage-1")
    worker = cage.make("worker-1")
    folder = mount / "system.slice/meshd-exec.service" / OWN / "cage-1"
    write(folder / "memory.events", "low 0\noom_kill 3\n")
    write(folder / "worker-1/memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 3\n")

    assert worker.oom_kills() == 3
    assert cage.oom_kills() == 0


def test_the_kernel_kills_a_whole_group_where_it_can(
    machine: Callable[[str], Path], delegated: None, handing_on: None, tmp_path: Path
) -> None:
    mount = machine("/system.slice/meshd-exec.service")
    cgroups = Cgroups.find(tmp_path)
    assert cgroups is not None
    cage = cgroups.make("cage-1")
    kill = mount / "system.slice/meshd-exec.service" / OWN / "cage-1/cgroup.kill"
    write(kill, "")
    write(kill.parent / "own/cgroup.procs", "1")

    cage.kill()

    assert kill.read_text() == "1"


def test_without_a_controller_that_bounds_work_there_are_no_groups(
    machine: Callable[[str], Path], handing_on: None, tmp_path: Path
) -> None:
    mount = machine("/")
    write(mount / "cgroup.controllers", "hugetlb")
    write(mount / "cgroup.subtree_control", "")

    assert Cgroups.find(tmp_path) is None


def test_without_cgroups_there_are_no_groups(tmp_path: Path) -> None:
    assert Cgroups.find(tmp_path) is None


def test_a_tree_that_is_not_ours_to_write_gives_no_groups(
    machine: Callable[[str], Path], handing_on: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary user without delegation."""
    machine("/user.slice/session-1.scope")
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    assert Cgroups.find(tmp_path) is None


def test_a_group_that_can_not_be_completed_leaves_no_folder(
    machine: Callable[[str], Path], delegated: None, handing_on: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = machine("/system.slice/meshd-exec.service")
    cgroups = Cgroups.find(tmp_path)
    assert cgroups is not None

    def refuse(self: Path, text: str) -> int:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(CageError, match="busy"):
        cgroups.make("cage-1")

    assert not (mount / "system.slice/meshd-exec.service" / OWN / "cage-1").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "own"])
def test_a_group_has_a_name_that_is_a_folders(
    machine: Callable[[str], Path], delegated: None, handing_on: None, tmp_path: Path, name: str
) -> None:
    machine("/system.slice/meshd-exec.service")
    cgroups = Cgroups.find(tmp_path)
    assert cgroups is not None

    with pytest.raises(AssertionError):
        cgroups.make(name)
