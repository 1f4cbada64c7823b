"""The service that asks the driver: every minute, soon after trouble, and never for longer than a driver may take."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from meshd_node.capacity.gpu_watch import GpuWatch
from meshd_node.capacity.gpus import GpuSurvey
from meshd_node.services.gpu_checks import GpuChecks, asking
from meshd_protocol.records import Gpu

GIB = 1 << 30
WELL = GpuSurvey((Gpu("GPU-1", "T4", 16 * GIB),), (16 * GIB,))
LOST = GpuSurvey(faults=("GPU 0 can not be used: GPU is lost",))


class Machine:
    """A driver that says what it is told, and a node that counts."""

    def __init__(self) -> None:
        self.says, self.asked = WELL, 0
        self.watch = GpuWatch(WELL.gpus)
        self.told: list[int] = []
        self.checks = GpuChecks(self.watch, self.ask, frozenset, lambda: self.told.append(len(self.watch.gpus)))

    async def ask(self) -> GpuSurvey:
        self.asked += 1
        return self.says


@pytest.fixture
def machine() -> Machine:
    return Machine()


async def passes(seconds: float) -> None:
    """Let time pass."""
    await trio.sleep(seconds)
    await wait_all_tasks_blocked()


async def test_a_gpu_that_is_lost_is_not_lent_a_minute_later_and_its_return_is_seen(nursery, autojump_clock, machine):
    nursery.start_soon(machine.checks.run)
    machine.says = LOST
    await passes(65)
    assert machine.told == [0]

    machine.says = WELL
    await passes(65)
    assert machine.told == [0, 1]


async def test_while_nothing_changes_nobody_is_told(nursery, autojump_clock, machine):
    nursery.start_soon(machine.checks.run)
    await passes(300)

    assert (machine.told, machine.asked) == ([], 5)


async def test_after_a_unit_failed_the_driver_is_asked_soon_but_not_for_each_unit(nursery, autojump_clock, machine):
    nursery.start_soon(machine.checks.run)
    machine.says = LOST
    await wait_all_tasks_blocked()
    for _ in range(20):
        machine.checks.look_soon()
        await passes(0.1)

    assert machine.told == [0]
    assert machine.asked == 1
    await passes(5)
    assert machine.asked == 2, "there was trouble while it looked"


async def test_a_driver_that_never_answers_lends_no_gpus(nursery, autojump_clock, machine):
    checks = GpuChecks(
        machine.watch, trio.sleep_forever, frozenset, lambda: machine.told.append(len(machine.watch.gpus))
    )
    nursery.start_soon(checks.run)
    await passes(70)

    assert machine.told == [0]
    assert machine.watch.faults == ("the driver of the GPUs did not answer within 10 s",)


async def test_the_driver_is_asked_in_a_thread():
    assert await asking(None)() == GpuSurvey()
