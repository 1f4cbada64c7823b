"""Work that needs a Python environment: it waits for that, within bounds, and never starts without."""

import pytest

from meshd_node.core.executor.events import (
    DrainBegan,
    EnvironmentFailed,
    EnvironmentGone,
    EnvironmentReady,
    OwnerLost,
    OwnerUp,
    Recalled,
)
from meshd_node.core.tenant import Harness
from meshd_protocol.messages.attempts import AttemptStatus

ALICE, BOB = b"a" * 20, b"b" * 20
LOCK = b"l" * 32
PACKED = Harness(environment=LOCK)


@pytest.fixture
def bench(new_bench):
    bench = new_bench(slots=2)
    for owner in (ALICE, BOB):
        bench.send(OwnerUp(owner))
    return bench


def test_work_starts_once_its_environment_is_there_which_is_asked_for_once(bench) -> None:
    bench.lease(0, harness=PACKED)
    bench.lease(1, harness=PACKED, owner=BOB)

    assert [(each.environment, each.submitter.node) for each in bench.preparing] == [(LOCK, ALICE)]
    assert not bench.live
    assert bench.machine.queued == 2
    bench.send(EnvironmentReady(LOCK))
    bench.run_all()
    bench.lease(2, harness=PACKED)
    bench.run_all()
    assert sorted(bench.ended(AttemptStatus.RETURNED)) == [0, 1, 2]
    assert len(bench.preparing) == 1


def test_one_unit_for_each_slot_waits_and_the_others_may_run_elsewhere(bench) -> None:
    bench.lease(0, 1, 2, 3, harness=PACKED)

    assert bench.ended(AttemptStatus.REFUSED) == [2, 3]
    assert "builds the Python environment" in bench.details[2, 0]


def test_other_work_runs_while_an_environment_is_built(bench) -> None:
    bench.lease(0, 1, harness=PACKED)
    bench.lease(5, 6, owner=BOB)
    bench.run_all()

    assert bench.ended(AttemptStatus.RETURNED) == [5, 6]


def test_what_can_not_be_built_is_refused_with_the_reason_and_asked_for_again_when_it_comes_again(bench) -> None:
    bench.lease(0, harness=PACKED)
    bench.send(EnvironmentFailed(LOCK, "numpy has no wheel for this platform"))

    assert bench.ended(AttemptStatus.REFUSED) == [0]
    assert bench.details[0, 0] == "numpy has no wheel for this platform"
    bench.lease(0, attempt=1, harness=PACKED)
    assert len(bench.preparing) == 2


def test_what_is_recalled_or_of_a_lost_owner_does_not_run_when_the_environment_comes(bench) -> None:
    bench.lease(0, harness=PACKED)
    bench.lease(1, harness=PACKED, owner=BOB)
    bench.send(Recalled(ALICE, bench_job(bench), 0, [0]))
    bench.send(OwnerLost(BOB))
    bench.send(EnvironmentReady(LOCK))

    assert bench.machine.queued == 0
    assert not bench.live
    assert not bench.machine.uses(LOCK)


def test_a_node_that_drains_hands_back_what_waits_for_an_environment(bench) -> None:
    bench.lease(0, harness=PACKED)
    bench.send(DrainBegan(bench.now + 10))

    assert bench.ended(AttemptStatus.HANDED_BACK) == [0]
    assert bench.drained == 1
    bench.send(EnvironmentReady(LOCK))
    assert not bench.live


def test_an_environment_is_in_use_while_work_waits_or_has_a_worker_and_is_asked_for_again_when_gone(bench) -> None:
    bench.lease(0, harness=PACKED)
    assert bench.machine.uses(LOCK)
    bench.send(EnvironmentReady(LOCK))
    assert bench.machine.uses(LOCK)
    bench.run_all()
    bench.lease(7, owner=BOB)
    bench.run_all()
    bench.wait(3_600)
    assert not bench.machine.uses(LOCK)

    bench.send(EnvironmentGone(LOCK))
    bench.lease(1, harness=PACKED)
    assert len(bench.preparing) == 2


def bench_job(bench) -> bytes:
    """The job that the machine knows of Alice's leases."""
    return next(key[1] for key in bench.machine._ledger._shares if key[0] == ALICE)
