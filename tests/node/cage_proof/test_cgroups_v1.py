"""Groups of version 1, for real: where this process may make none, the tests are left out and say so."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshd_node.cgroup_trees import hierarchies
from meshd_node.errors import CageError
from meshd_node.exec.cage.cgroups import Cgroups, Group

MIB = 1 << 20
# Waits until it is in its group, and then does what the test says.
WAITING = "import os, sys; sys.stdin.read(1)\n"


def may_make_groups() -> bool:
    wanted = {"memory", "pids"}
    return wanted <= {
        name for tree in hierarchies(Path("/")) if os.access(tree.own, os.W_OK) for name in tree.controllers
    }


pytestmark = pytest.mark.skipif(
    not may_make_groups(), reason="needs root and cgroups v1 with memory and pids: no group can be made here"
)


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    found = Cgroups.find()
    assert found is not None
    yield found
    found.close()


@pytest.fixture
def start() -> Iterator[Callable[[str], "subprocess.Popen[bytes]"]]:
    started = []

    def start(code: str) -> "subprocess.Popen[bytes]":
        program = [sys.executable, "-IS", "-c", WAITING + code]
        started.append(subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end(group: Group) -> None:
    group.kill()
    while group.processes():
        os.sched_yield()
    assert group.remove()


def test_memory_of_a_group_is_bounded_and_a_kill_for_it_is_counted(
    cgroups: Cgroups, start: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    group = cgroups.make("cage-1", memory_bytes=32 * MIB)
    process = start("bytearray(64 << 20)")
    group.add(process.pid)

    process.communicate(b"x")

    assert process.returncode == -9
    assert group.oom_kills() == 1
    end(group)


def test_a_group_within_another_has_bounds_and_kills_of_its_own(
    cgroups: Cgroups, start: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    """A worker that takes too much is killed alone: the zygote in the cage's group lives on."""
    cage = cgroups.make("cage-2", memory_bytes=256 * MIB)
    worker = cage.make("worker-1", memory_bytes=32 * MIB)
    greedy, modest = start("bytearray(64 << 20)"), start("bytearray(64 << 20)")
    worker.add(greedy.pid)
    cage.add(modest.pid)

    greedy.communicate(b"x")
    modest.communicate(b"x")

    assert (greedy.returncode, modest.returncode) == (-9, 0)
    assert (worker.oom_kills(), cage.oom_kills()) == (1, 0)
    end(cage)


def test_processes_are_bounded_for_the_group_as_a_whole(
    cgroups: Cgroups, start: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    group = cgroups.make("cage-3", pids=8)
    process = start(
        "from signal import pause\nmade = 0\nwhile made < 50:\n try:\n  made += 1 if os.fork() else pause()\n"
        " except OSError:\n  break\nprint(made, flush=True); pause()"
    )
    group.add(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"x")
    process.stdin.flush()

    assert process.stdout.readline() == b"7\n"
    end(group)


def test_killing_a_group_ends_what_left_its_session_and_lost_its_parents(
    cgroups: Cgroups, start: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    group = cgroups.make("cage-4")
    process = start("os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); print('out', flush=True); "
                    "__import__('signal').pause()")  # fmt: skip
    group.add(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"x")
    process.stdin.flush()
    assert process.stdout.readline() == b"out\n"

    group.kill()

    # The end of the pipe that all of them held.
    assert process.stdout.read() == b""
    end(group)


def test_a_process_comes_with_all_that_it_has_started_before(cgroups: Cgroups) -> None:
    """What makes a cage forks at once: the cage's first process is a grandchild when its parent can be moved."""
    inner = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & echo made; wait"], stdout=subprocess.PIPE)
    assert inner.stdout is not None
    assert inner.stdout.readline() == b"made\n"
    group = cgroups.make("cage-5")

    group.add(inner.pid)

    assert len(group.processes()) == 3
    end(group)
    inner.communicate()


def test_a_process_that_is_gone_is_said_to_be(
    cgroups: Cgroups, start: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    group = cgroups.make("cage-6")
    process = start("pass")
    process.communicate(b"x")

    with pytest.raises(ProcessLookupError):
        group.add(process.pid)

    assert group.remove()


def test_a_group_with_processes_is_not_removed(
    cgroups: Cgroups, start: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    group = cgroups.make("cage-7")
    process = start("__import__('signal').pause()")
    group.add(process.pid)

    assert not group.remove()

    end(group)


def test_two_groups_of_one_name_are_refused_in_one_line(cgroups: Cgroups) -> None:
    group = cgroups.make("cage-8")

    with pytest.raises(CageError, match="can not be made"):
        cgroups.make("cage-8")

    assert group.remove()


def test_a_group_that_used_its_share_of_the_processors_waits(
    cgroups: Cgroups, start: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    if "cpu" not in cgroups.controllers:
        pytest.skip("the cpu controller is not here")
    group = cgroups.make("cage-9", cpu_milli=200)
    process = start("import time\nwhile time.process_time() < 0.15: pass")
    group.add(process.pid)

    process.communicate(b"x")

    assert group.throttled() > 0
    end(group)


def test_groups_of_dead_processes_are_removed_at_the_next_start() -> None:
    code = "from meshd_node.exec.cage.cgroups import Cgroups; import os; g = Cgroups.find(); g.make('cage-1'); " \
           "print(os.getpid())"  # fmt: skip
    pid = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    left = [tree.own / f"meshd-{pid}" for tree in hierarchies(Path("/")) if not tree.unified]
    assert any(folder.exists() for folder in left)

    found = Cgroups.find()

    assert found is not None
    found.close()
    assert not any(folder.exists() for folder in left)


def test_its_text_names_the_version_and_what_holds(cgroups: Cgroups) -> None:
    assert cgroups.text.startswith("cgroups v1")
    assert "memory" in cgroups.text
