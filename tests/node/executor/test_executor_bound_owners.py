"""What becomes of an owner's work when the node's charter allows less of it, and when it allows more again."""

import pytest

from meshd_node.core.executor.events import OwnerBound, OwnerUp, WorkerEnded
from meshd_node.core.tenant import Harness
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.records import Runtime

ALICE, BOB = b"a" * 20, b"b" * 20
COMMANDS = Harness(Runtime.COMMAND)
ALL = tuple(Runtime)


def closed(owner: bytes = ALICE, until: float = 1e9) -> OwnerBound:
    return OwnerBound(owner, (), until, "outside its hours")


@pytest.fixture
def bench(new_bench):
    """A node with two slots, and Alice."""
    bench = new_bench()
    bench.send(OwnerUp(ALICE))
    return bench


@pytest.fixture
def busy(bench):
    """Alice's first two units run, two wait; Bob is there as well."""
    bench.send(OwnerUp(BOB))
    bench.lease(1, 2, 3, 4)
    bench.ready()
    return bench


def handed_back(bench, owner: bytes = ALICE) -> list[int]:
    return sorted(unit for who, unit, _, status in bench.ends if (who, status) == (owner, AttemptStatus.HANDED_BACK))


def interrupted(bench) -> list[int]:
    return sorted(unit for who, unit, _, status in bench.ends if status is AttemptStatus.INTERRUPTED)


def test_what_waits_is_handed_back_at_once_and_what_runs_may_end(busy) -> None:
    busy.send(closed())

    assert handed_back(busy) == [3, 4]
    assert busy.details[3, 0] == "outside its hours"
    assert busy.windows[ALICE] == 0
    assert busy.windows[BOB] > 0
    busy.run_all()
    assert handed_back(busy) == [3, 4]
    assert busy.machine.running == 0


def test_what_runs_for_too_long_is_ended_and_no_fault_of_its_own(busy) -> None:
    busy.send(closed(until=busy.now + 5))
    busy.wait(4)
    assert not busy.killed
    busy.wait(2)

    assert len(busy.killed) == 2
    assert (interrupted(busy), handed_back(busy)) == ([1, 2], [3, 4])
    assert busy.details[1, 0] == "outside its hours"


def test_without_patience_all_ends_at_once(busy) -> None:
    busy.send(closed(until=busy.now))

    assert (interrupted(busy), handed_back(busy)) == ([1, 2], [3, 4])


def test_what_arrives_too_late_is_handed_back(busy) -> None:
    busy.send(closed())
    busy.lease(5)

    assert handed_back(busy) == [3, 4, 5]


def test_what_a_dead_worker_had_not_begun_does_not_wait_for_another_one(bench) -> None:
    bench.lease(1, 2, 3)
    bench.run_all()
    bench.lease(*range(10, 30))
    bench.send(closed())
    runs = len(bench.runs)
    for worker in sorted(bench.live):
        bench.send(WorkerEnded(worker, None, "it died"))

    assert len(bench.runs) == runs
    assert handed_back(bench) == list(range(10, 30))


def test_one_runtime_is_withdrawn_and_the_others_go_on(bench) -> None:
    bench.lease(1)
    bench.lease(2, 3, harness=COMMANDS)
    bench.ready()
    bench.send(OwnerBound(ALICE, (Runtime.PYTHON,), bench.now, "no commands here"))

    assert (interrupted(bench), handed_back(bench)) == ([2], [3])
    assert bench.windows[ALICE] > 0
    bench.run_all()
    bench.lease(4)
    bench.run_all()
    assert (interrupted(bench), handed_back(bench)) == ([2], [3])


def test_a_window_is_open_again_when_the_charter_is(busy) -> None:
    window = busy.windows[ALICE]
    busy.send(closed(until=busy.now + 5))
    busy.send(OwnerBound(ALICE, ALL, busy.now, ""))
    assert busy.windows[ALICE] == window
    busy.wait(20)

    assert not busy.killed, "what ran may go on"
    busy.lease(7)
    busy.run_all()
    assert handed_back(busy) == [3, 4]


def test_an_owner_that_is_not_up_is_none_of_our_business(bench) -> None:
    assert bench.send(closed(BOB)) == []
