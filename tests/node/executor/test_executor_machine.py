"""The executor's machine, one decision at a time."""

import pytest

from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.effects import EndWorker, GrantCredit, ReportEnds, ReportResults, RunOn, StartWorker
from meshd_node.core.executor.events import (
    DrainBegan,
    DrainEnded,
    LeasedWork,
    OwnerLost,
    OwnerUp,
    Recalled,
    WorkerEnded,
    WorkerRan,
    WorkerReady,
)
from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Harness, Tenant
from meshd_protocol.limits import BATCH_BYTES
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WorkResult

ALICE, BOB = b"a" * 20, b"b" * 20
JOB = bytes(20)
S = AttemptStatus


@pytest.fixture
def bench(new_bench):
    bench = new_bench()
    bench.send(OwnerUp(ALICE))
    return bench


def learn_short(bench, count=200):
    """Let the machine see that the function is quick, with all workers warm."""
    bench.lease(*range(1_000_000, 1_000_000 + count))
    bench.run_all(took_us=10)
    bench.runs.clear()
    bench.ends.clear()


def test_an_owner_gets_two_units_a_slot_at_first(bench):
    assert bench.windows == {ALICE: 4}


def test_work_starts_workers_and_runs_when_they_are_ready(bench):
    effects = bench.lease(0, 1, 2)

    assert [effect for effect in effects if isinstance(effect, StartWorker)] == [
        StartWorker(1, Tenant(Submitter(ALICE, 0)), (), 1 << 30),
        StartWorker(2, Tenant(Submitter(ALICE, 0)), (), 1 << 30),
    ]
    bench.ready()
    assert [len(run.serials) for run in bench.runs] == [1, 1], "a function not seen before goes one by one"
    bench.run_all()
    assert sorted(bench.ended(S.RETURNED)) == [0, 1, 2]


def test_a_unit_that_meets_an_idle_worker_runs_at_once(bench):
    learn_short(bench)

    effects = bench.lease(7)

    assert [type(effect) for effect in effects if not isinstance(effect, GrantCredit)] == [RunOn]


def test_results_carry_what_the_worker_said(bench):
    bench.lease(5, attempt=3)
    bench.ready()
    effects = bench.send(WorkerRan(1, [WorkResult(1, S.RAISED, b"error", 12, "traceback")]))

    (report,) = [effect for effect in effects if isinstance(effect, ReportResults)]
    (result,) = report.results
    assert (report.owner, report.job, report.epoch) == (ALICE, JOB, 0)
    assert (result.index, result.attempt, result.status, result.value) == (5, 3, S.RAISED, b"error")
    assert (result.took_us, result.detail) == (12, "traceback")


def test_a_lease_that_arrives_twice_is_answered_once(bench):
    bench.lease(0, 1)
    bench.lease(1, 0, 2)
    bench.run_all()

    assert sorted(bench.ended(S.RETURNED)) == [0, 1, 2]


def test_the_window_grows_to_its_bound_on_short_units_and_in_few_steps(bench):
    grants = 0
    unit = 0
    while bench.windows[ALICE] < 4096:
        before = bench.windows[ALICE]
        bench.lease(*range(unit, unit + before))
        unit += before
        bench.run_all(took_us=5)
        grants += 1
        assert grants < 20
    assert bench.windows[ALICE] == 4096


def test_the_window_stays_small_for_long_units(bench):
    bench.lease(0, 1, 2, 3)
    bench.run_all(took_us=50_000)

    assert bench.windows[ALICE] == 4


def test_what_lies_beyond_a_window_that_shrank_goes_back(bench):
    """A window earned with short units let a thousand in; they turn out long, and other nodes idle."""
    while bench.windows[ALICE] < 4096:
        learn_short(bench, 256)
    bench.lease(*range(1000), job=b"k" * 20)
    for _ in range(8):
        worker = min(worker for worker in bench.live if bench.given[worker])
        bench.now += 0.05
        bench.ran(worker, next(iter(bench.given[worker])), took_us=50_000)

    back = bench.ended(S.HANDED_BACK)
    assert len(back) > 900
    assert min(back) > 10, "the newest go back, not those that are next"
    assert bench.windows[ALICE] < 16


def test_a_wide_window_is_forgotten_by_an_idle_owner(bench):
    while bench.windows[ALICE] < 256:
        learn_short(bench)

    bench.wait(1.1)

    assert bench.windows == {ALICE: 4}


def test_short_units_travel_in_batches_two_under_way(bench):
    learn_short(bench)
    bench.lease(*range(2000))

    per_worker = {worker: [len(r.serials) for r in bench.runs if r.worker == worker] for worker in (1, 2)}
    assert per_worker == {1: [256, 256], 2: [256, 256]}
    assert bench.machine.queued == 2000 - 4 * 256

    first = bench.runs[0]
    bench.ran(first.worker, *first.serials, took_us=10)
    assert len(bench.runs) == 5, "the next batch is there before the worker runs dry"


def test_few_short_units_are_spread_over_idle_workers(bench):
    learn_short(bench)
    bench.lease(*range(100))

    assert sorted((run.worker, len(run.serials)) for run in bench.runs) == [(1, 50), (2, 50)]


def test_long_units_are_given_one_by_one(bench):
    bench.lease(0, 1, 2, 3)
    bench.ready()
    bench.now += 0.05
    bench.ran(1, 1, took_us=50_000)
    bench.ran(2, 1, took_us=50_000)
    bench.lease(*range(4, 10))

    assert {worker: len(given) for worker, given in bench.given.items()} == {1: 1, 2: 1}


def test_a_large_payload_closes_its_batch(bench):
    learn_short(bench)
    bench.lease(units=[LeasedWork(unit, 0, b"f" * 32, b"x" * 400_000) for unit in range(8)])

    assert all(len(run.serials) == 1 for run in bench.runs)


def test_a_crash_is_charged_to_the_unit_that_ran_and_to_no_other(bench):
    learn_short(bench)
    bench.lease(*range(10))
    (run, other) = bench.runs[:2]
    running = run.serials[2]

    bench.live.remove(run.worker)
    effects = bench.send(WorkerEnded(run.worker, running, "killed by SIGSEGV"))

    (report,) = [effect for effect in effects if isinstance(effect, ReportEnds)]
    ((unit, detail),) = [(end.index, end.detail) for end in report.ends]
    assert (unit, detail) == (2, "killed by SIGSEGV")
    assert other.worker != run.worker
    bench.run_all(took_us=10)
    assert sorted(bench.ended(S.RETURNED)) == [0, 1, 3, 4, 5, 6, 7, 8, 9]


def test_what_a_dead_worker_had_not_started_runs_before_what_came_later(bench):
    bench.lease(0, 1, 2, 3)
    bench.ready()
    bench.live.remove(1)
    bench.send(WorkerEnded(1, None, "killed"))
    bench.run_all()

    assert bench.ended(S.RETURNED) == [1, 0, 2, 3]


def test_three_workers_that_die_at_start_make_the_work_refused_with_the_reason(bench):
    bench.lease(0, 1)
    for _ in range(3):
        worker = bench.starting.pop(0)
        bench.live.remove(worker)
        bench.send(WorkerEnded(worker, None, "no memory for a process"))

    assert sorted(bench.ended(S.REFUSED)) == [0, 1]
    assert "no memory for a process" in bench.details[0, 0]


def test_a_worker_that_dies_on_being_given_work_counts_as_one_that_did_not_start(bench):
    """Without this a unit that kills its worker before it begins would be given out for ever."""
    bench.lease(0)
    for _ in range(3):
        bench.ready()
        (worker,) = bench.live
        bench.live.remove(worker)
        bench.send(WorkerEnded(worker, None, "out of memory"))

    assert bench.ended(S.REFUSED) == [0]


def test_units_handed_back_by_a_busy_worker_run_on_another(bench):
    learn_short(bench)
    bench.lease(*range(6))
    busy, idle = bench.runs[0], bench.runs[1]
    bench.ran(idle.worker, *idle.serials, took_us=10)
    bench.runs.clear()

    bench.ran(busy.worker, *busy.serials[1:], status=S.HANDED_BACK)

    assert {run.worker for run in bench.runs} == {idle.worker}
    assert sum(len(run.serials) for run in bench.runs) == 2
    bench.lease(*range(10, 20))
    assert {run.worker for run in bench.runs} == {idle.worker}, (
        "a worker that handed back gets nothing until it answers"
    )


def test_a_unit_that_runs_too_long_is_ended_and_those_behind_it_run_elsewhere(bench):
    learn_short(bench)
    bench.lease(*range(4), timeout_ms=500, job=b"k" * 20)
    bench.run_all(took_us=10)
    bench.ends.clear()
    bench.lease(*range(10, 14), timeout_ms=500, job=b"k" * 20)
    stuck = bench.runs[-1].worker
    other = next(worker for worker in bench.live if worker != stuck)
    bench.ran(other, *bench.given[other], took_us=10)
    bench.wait(0.6)
    bench.run_all(took_us=10)

    assert [end.worker for end in bench.killed] == [stuck]
    assert len(bench.ended(S.TIMED_OUT)) == 1
    assert len(bench.ended(S.RETURNED)) == 3


def test_a_timeout_counts_from_the_start_of_the_unit(bench):
    bench.lease(0, 1, 2, 3, timeout_ms=500)
    bench.ready()
    for _ in range(2):
        bench.wait(0.4)
        for worker in (1, 2):
            bench.ran(worker, *bench.given[worker], took_us=400_000)

    assert not bench.killed
    assert len(bench.ended(S.RETURNED)) == 4


def test_recalled_units_that_wait_are_dropped_without_a_word(bench):
    bench.lease(*range(6))
    bench.send(Recalled(ALICE, JOB, 0, [1, 2, 5]))
    bench.run_all()

    assert sorted(unit for _, unit, _, _ in bench.ends) == [0, 3, 4]


def test_a_recalled_unit_that_runs_on_and_on_is_ended(bench):
    bench.lease(0)
    bench.ready()
    bench.send(Recalled(ALICE, JOB, 0, []))
    assert not bench.killed, "a short one would be over before a new worker starts"

    bench.wait(0.2)

    assert [end.worker for end in bench.killed] == [1]
    assert bench.ends == []


def test_the_result_of_a_recalled_unit_is_dropped(bench):
    bench.lease(0)
    bench.ready()
    bench.send(Recalled(ALICE, JOB, 0, [0]))
    bench.ran(1, 1)

    assert bench.ends == []
    assert bench.machine.running == 0


def test_units_are_recalled_in_their_epoch_and_a_whole_job_in_all(bench):
    bench.lease(0, 1)
    bench.send(Recalled(ALICE, JOB, 1, [0]))
    assert bench.machine.queued == 2

    bench.send(Recalled(ALICE, JOB, 1, []))

    assert bench.machine.queued == 0


def test_a_lost_owner_is_told_nothing_and_its_work_stops(bench):
    bench.lease(*range(6))
    bench.ready()
    bench.send(OwnerLost(ALICE))
    bench.wait(0.2)

    assert bench.ends == []
    assert (bench.machine.queued, bench.machine.running) == (0, 0)
    bench.lease(7)
    assert bench.machine.queued == 0, "a lease of a session that ended"


def test_an_owner_that_ignores_its_window_is_refused(new_bench):
    bench = new_bench(window_units_max=256, queue_units_max=300)
    bench.send(OwnerUp(ALICE))
    bench.lease(*range(256))
    bench.lease(*range(256, 400))
    bench.run_all()

    assert sorted(bench.ended(S.REFUSED)) == list(range(256, 400))
    assert sorted(bench.ended(S.RETURNED)) == list(range(256))
    assert "busy" in bench.details[300, 0]


def test_owners_take_turns(new_bench):
    bench = new_bench(slots=1)
    user = Tenant(Submitter(ALICE, 0))
    bench.send(OwnerUp(ALICE))
    bench.send(OwnerUp(BOB))
    bench.lease(*range(20))
    bench.lease(*range(20), owner=BOB, tenant=user)
    bench.ready()
    for _ in range(10):
        bench.now += 0.01
        bench.ran(1, *bench.given[1], took_us=10_000)

    assert [bench.ends.count(end) for end in bench.ends] == [1] * 10
    assert [owner for owner, *_ in bench.ends].count(ALICE) == 5


def test_a_worker_never_serves_another_submitter(bench):
    bench.lease(0, uid=1)
    bench.run_all()
    bench.lease(1, uid=2)
    bench.ready()
    bench.lease(2, uid=3)
    bench.ready()

    assert [bench.tenant_of[run.worker].submitter.uid for run in bench.runs] == [1, 2, 3]
    assert [end.worker for end in bench.killed] == [1]


def test_a_submitter_without_a_worker_gets_a_slot_of_one_that_has_more_than_its_due(bench):
    bench.send(OwnerUp(BOB))
    bench.lease(*range(100))
    bench.ready()
    bench.lease(0, 1, 2, owner=BOB)
    bench.now += 0.01
    effects = bench.send(WorkerRan(1, [WorkResult(1, S.RETURNED, b"", 10_000)]))

    assert [effect for effect in effects if isinstance(effect, EndWorker | StartWorker)] == [
        EndWorker(1, "its room is due to other work"),
        StartWorker(3, Tenant(Submitter(BOB, 0)), (), 1 << 30),
    ]
    bench.given[1].clear()
    bench.ran(2, 1, took_us=10_000)
    assert bench.given[2], "the other keeps its slot"


def test_inventing_users_gains_no_slots(new_bench):
    bench = new_bench(slots=4)
    bench.send(OwnerUp(ALICE))
    bench.send(OwnerUp(BOB))
    bench.lease(*range(400), owner=BOB)
    bench.ready()
    for uid in range(20):
        bench.lease(uid, uid=uid)
    for _ in range(30):
        for worker in sorted(bench.live):
            bench.now += 0.001
            bench.ran(worker, *bench.given[worker], took_us=1_000)
        bench.ready()
        bobs = sum(bench.tenant_of[worker].submitter.node == BOB for worker in bench.live)
        assert bobs == 2 if bench.machine.queued > 20 else True


def test_more_submitters_than_slots_take_turns(new_bench):
    bench = new_bench(slots=1)
    bench.send(OwnerUp(ALICE))
    for uid in range(3):
        bench.lease(*range(uid * 100, uid * 100 + 100), uid=uid)
    served = set()
    for _ in range(150):
        bench.ready()
        (worker,) = bench.live
        served.add(bench.tenant_of[worker].submitter.uid)
        bench.now += 0.01
        bench.ran(worker, *bench.given[worker], took_us=10_000)

    assert served == {0, 1, 2}


def test_submitters_take_turns_though_a_worker_starts_for_longer_than_a_turn_lasts(new_bench):
    """Each worker was ended for the other submitter as soon as it had started: 1,500 of them, and no unit ran."""
    bench = new_bench(slots=1, turn_ms=200)
    bench.send(OwnerUp(ALICE))
    bench.lease(0, 1, uid=1)
    bench.lease(2, 3, uid=2)
    for _ in range(12):
        bench.wait(0.5)
        begun, bench.starting = bench.starting, []
        for worker in begun:
            bench.send(WorkerReady(worker))
        for worker in sorted(bench.live):
            if bench.given[worker]:
                bench.ran(worker, *bench.given[worker])

    assert sorted(bench.ended(AttemptStatus.RETURNED)) == [0, 1, 2, 3]


def test_idle_workers_of_earlier_submitters_end_and_the_last_ones_stay_warm(new_bench):
    bench = new_bench(slots=4)
    bench.send(OwnerUp(ALICE))
    bench.lease(0, 1, uid=1)
    bench.run_all()
    bench.lease(2, 3, uid=2)
    bench.run_all()
    bench.wait(100)

    assert [bench.tenant_of[worker].submitter.uid for worker in sorted(bench.live)] == [2, 2]


def test_draining_hands_back_what_waits_and_finishes_what_runs(bench):
    bench.lease(*range(6))
    bench.ready()
    bench.send(DrainBegan(bench.now + 5))

    assert bench.windows == {ALICE: 0}
    assert sorted(bench.ended(S.HANDED_BACK)) == [2, 3, 4, 5]
    bench.lease(9)
    assert 9 in bench.ended(S.HANDED_BACK)
    bench.run_all()
    assert sorted(bench.ended(S.RETURNED)) == [0, 1]
    assert (bench.live, bench.drained) == (set(), 1)


def test_draining_has_an_end(bench):
    bench.lease(0)
    bench.ready()
    bench.send(DrainBegan(bench.now + 5))
    bench.wait(6)

    assert bench.ended(S.INTERRUPTED) == [0], "we ended it: nobody is charged, and it may have run"
    assert (bench.live, bench.drained) == (set(), 1)


def test_node_that_takes_work_again_opens_its_windows_and_runs_what_comes(bench):
    bench.lease(0, 1)
    bench.ready()
    before = bench.windows[ALICE]
    bench.send(DrainBegan(float("inf")))
    bench.run_all()
    assert (bench.windows, bench.drained) == ({ALICE: 0}, 1)

    bench.send(DrainEnded())
    assert bench.windows[ALICE] >= before
    bench.lease(2, 3)
    bench.run_all()
    assert sorted(bench.ended(S.RETURNED)) == [0, 1, 2, 3]


def test_drain_that_was_taken_back_is_over_only_when_the_next_one_is(bench):
    bench.lease(0)
    bench.ready()
    bench.send(DrainBegan(float("inf")))
    bench.send(DrainEnded())
    bench.run_all()
    assert bench.drained == 0

    bench.send(DrainBegan(bench.now + 5))
    assert bench.drained == 1


def test_owner_that_comes_while_the_node_drains_gets_its_window_when_that_ends(bench):
    bench.send(DrainBegan(float("inf")))
    bench.send(OwnerUp(b"b" * 20))
    assert bench.windows[b"b" * 20] == 0

    bench.send(DrainEnded())
    assert bench.windows[b"b" * 20] > 0


def test_a_worker_that_crashes_while_draining_costs_its_unit_only(bench):
    learn_short(bench)
    bench.lease(0, 1, 2, 3)
    bench.send(DrainBegan(bench.now + 5))
    run = bench.runs[0]
    assert len(run.serials) == 2
    bench.live.remove(run.worker)
    bench.send(WorkerEnded(run.worker, run.serials[0], "exit code 1"))

    assert bench.ended(S.CRASHED) == [0]
    assert bench.ended(S.HANDED_BACK) == [1]
    assert bench.machine.running == 2


def test_large_results_are_reported_in_messages_of_bounded_size(bench):
    learn_short(bench)
    bench.lease(*range(10))
    run = bench.runs[0]
    value = b"x" * (BATCH_BYTES // 2)
    effects = bench.send(WorkerRan(run.worker, [WorkResult(serial, S.RETURNED, value) for serial in run.serials]))

    assert [len(e.results) for e in effects if isinstance(e, ReportResults)] == [2, 2, 1]


def test_a_worker_that_claims_absurd_times_changes_no_more_than_it_took(bench):
    learn_short(bench)
    before = bench.windows[ALICE]
    bench.lease(0)
    run = bench.runs[0]
    bench.now += 1e-5
    bench.ran(run.worker, *run.serials, took_us=1 << 62)

    assert bench.windows[ALICE] >= before


def test_news_of_unknown_workers_and_serials_is_ignored(bench):
    bench.send(WorkerRan(99, [WorkResult(1, S.RETURNED, b"")]))
    bench.send(WorkerEnded(99, 1, "gone"))
    bench.lease(0)
    bench.ready()
    bench.ran(1, 77)

    assert bench.ends == []


def test_a_config_that_could_stop_the_executor_is_refused():
    with pytest.raises(ValueError, match="window_bytes"):
        ExecutorConfig(window_bytes=1000)
    with pytest.raises(ValueError, match="batch_us"):
        ExecutorConfig(batch_us=0)


def test_a_unit_leased_again_after_its_recall_is_known_until_it_ends(bench):
    """The late result of the recalled copy once closed the books of the new one."""
    bench.lease(0)
    bench.ready()
    bench.send(Recalled(ALICE, JOB, 0, []))
    bench.lease(1)
    bench.ran(1, 1)
    bench.send(OwnerLost(ALICE))
    bench.wait(1)

    assert bench.ends == []
    assert (bench.machine.queued, bench.machine.running) == (0, 0)


def test_a_unit_that_crashed_in_a_process_of_its_own_is_charged_alone(bench):
    bench.lease(0, 1, 2, harness=Harness(own_process=True))
    bench.ready()
    number = next(run.worker for run in bench.runs)
    crashed = WorkResult(bench.runs[0].serials[0], S.CRASHED, b"", 0, "killed by SIGSEGV")
    effects = bench.send(WorkerRan(number, [crashed]))

    assert len(bench.ended(S.CRASHED)) == 1
    assert not any(isinstance(effect, EndWorker | StartWorker) for effect in effects), "its worker goes on"
    bench.run_all()
    assert len(bench.ended(S.RETURNED)) == 2
