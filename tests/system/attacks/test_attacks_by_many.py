"""Attacks by many at once: submitters, and kinds of work, each of which wants a cage, a user and a group of its own."""

import ctypes
import os
import sys
from pathlib import Path

import cloudpickle
import pytest

from meshd_sdk import Mesh, Resources

cloudpickle.register_pickle_by_value(sys.modules[__name__])

# Two that work, one that waits blank, four that are kept warm, one that is just ending.
CAGES_MAX = 8
KEEP_CAPABILITIES = 0b100  # SECBIT_NO_SETUID_FIXUP
PR_SET_SECUREBITS = 28


def groups_of(arena) -> list[Path]:
    return list(Path("/sys/fs/cgroup").rglob(f"meshd-{arena.targets['warden']}/cage-*"))


def test_many_kinds_of_work_have_few_cages(arena, verdict) -> None:
    units = []
    for number in range(24):
        kind = arena.attacker.options(retries=0, resources=Resources(memory=f"{64 + number}MiB"))
        units.append(kind.submit(os.getpid))
    assert all(unit.result(40) for unit in units)
    arena.serves()
    cages, groups = len(arena.lender.zygotes()), len(groups_of(arena))

    verdict(cages <= CAGES_MAX and groups <= 4 * CAGES_MAX, f"{cages} cages, {groups} groups")


def submit_as(uid: int, path: Path) -> int:
    """Have a unit run for another user of this machine, who may use the socket; return its answer."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ctypes.CDLL(None).prctl(PR_SET_SECUREBITS, KEEP_CAPABILITIES, 0, 0, 0)
            os.seteuid(uid)
            with Mesh(path) as mesh:
                os.write(writing, bytes([mesh.submit(abs, -uid).result(40) == uid]))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        told = answer.read()
    os.waitpid(pid, 0)
    return sum(told)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be many users")
@pytest.mark.filterwarnings("ignore:This process")
def test_many_submitters_have_few_cages_and_each_its_own(arena, verdict) -> None:
    answered = sum(submit_as(uid, arena.lender.socket) for uid in range(70_000, 70_012))
    arena.serves()
    cages, groups = len(arena.lender.zygotes()), len(groups_of(arena))

    verdict(cages <= CAGES_MAX and groups <= 4 * CAGES_MAX, f"{answered} served, {cages} cages, {groups} groups")
    assert answered == 12
