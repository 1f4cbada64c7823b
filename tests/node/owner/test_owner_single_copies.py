"""One copy of each unit: leases, windows, retries, cancellation, the end of a job."""

import pytest

from meshd_node.core.owner.effects import Deliver, JobFinished, Journal, Lease, Recall
from meshd_node.core.owner.events import (
    AttemptsFailed,
    CreditGranted,
    DeliveryPaused,
    DeliveryResumed,
    ExecutorChanged,
    ExecutorLost,
    JobClosed,
    JobForgotten,
    ResultsArrived,
    Tick,
    UnitsCancelled,
)
from meshd_protocol.ids import to_text
from meshd_protocol.limits import BATCH_BYTES
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus, UnitStatus
from meshd_protocol.records import Needs, Phase, Policy, Runtime


def test_a_batch_goes_out_in_one_lease_and_comes_back_in_one_delivery(rig) -> None:
    rig.node("a")
    job = rig.job()

    rig.submit(job, 200)
    assert [len(lease.indices) for lease in rig.leases] == [200]
    effects = rig.answer(rig.leases[0])

    assert [type(effect) for effect in effects] == [Journal, Deliver]
    assert [outcome.index for outcome in effects[1].outcomes] == list(range(200))
    assert all(outcome.status is UnitStatus.RETURNED for outcome in effects[1].outcomes)


def test_a_raised_exception_is_a_result_and_is_not_retried(rig) -> None:
    node, job = rig.node("a"), rig.job()
    rig.submit(job, 1)

    raised = AttemptResult(0, 0, AttemptStatus.RAISED, b"error", 0, "Traceback")
    rig.send(ResultsArrived(node, job, 1, [raised], [b"d" * 32]))

    assert rig.delivered[job][0].status is UnitStatus.RAISED
    assert rig.delivered[job][0].detail == "Traceback"


def test_a_job_finishes_once_after_its_last_unit(rig) -> None:
    rig.node("a")
    job = rig.job()
    rig.submit(job, 3)

    assert not any(isinstance(effect, JobFinished) for effect in rig.send(JobClosed(job)))
    rig.answer(rig.leases[0])

    assert rig.finished[job].state == "done"


def test_a_job_without_units_finishes_when_it_is_closed(rig) -> None:
    job = rig.job()
    rig.send(JobClosed(job))
    assert rig.finished[job].state == "done"


def test_a_lease_is_of_one_tranche(rig) -> None:
    job = rig.job()
    rig.submit(job, 3)
    rig.submit(job, 3)

    rig.node("a")

    assert [(lease.tranche, lease.indices) for lease in rig.leases] == [(0, [0, 1, 2]), (1, [3, 4, 5])]


def test_windows_in_units_are_kept(rig) -> None:
    node, job = rig.node("a", window=5), rig.job()
    rig.submit(job, 20)
    assert rig.leased() == {node: 5}

    rig.send(CreditGranted(node, 3, 1 << 20))
    rig.answer(rig.leases[0])

    assert rig.leased() == {node: 3}


def test_windows_in_bytes_are_kept_but_an_idle_node_takes_one_unit_of_any_size(rig) -> None:
    node, job = rig.node("a", window=5, window_bytes=100), rig.job()
    rig.submit(job, 4, size=40)
    assert rig.leased() == {node: 2}

    rig.submit(job, 1, size=1_000)
    rig.answer(rig.leases[0])
    assert rig.leased() == {node: 2}
    rig.answer(rig.leases[0])

    assert rig.leased() == {node: 1}
    assert len(rig.leases[0].payloads[0]) == 1_000


def test_a_batch_is_closed_at_its_size(rig) -> None:
    rig.node("a")
    job = rig.job()

    rig.submit(job, 5, size=BATCH_BYTES // 2)

    assert [len(lease.indices) for lease in rig.leases] == [2, 2, 1]


def test_nothing_goes_to_a_node_that_does_not_accept(rig) -> None:
    rig.node("a", accepts=False)
    rig.node("b", phase=Phase.DRAINING)
    rig.node("c", slots=0)
    job = rig.job()

    rig.submit(job, 3)
    assert rig.leases == []
    rig.send(ExecutorChanged(rig.view("a")))

    assert rig.leased() == {rig.node_id("a"): 3}


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (Needs(python="3.12"), "needs Python 3.12, it has 3.11"),
        (Needs(gpus=2), "needs 2 GPUs, it has 1"),
        (Needs(cpu_milli=16_000), "needs 16 cpus, it has 2"),
        (Needs(memory_bytes=1 << 40), "needs 1048576 MiB of memory, it has 16384"),
    ],
)
def test_a_unit_waits_for_what_no_node_has_and_says_so(rig, needs: Needs, words: str) -> None:
    rig.node("a", gpus=1)
    job = rig.job(needs=needs)
    rig.submit(job, 1)

    assert rig.leases == []
    assert any(words in line for line in rig.owner.why(job, 0, rig.now))

    rig.node("able", slots=32, gpus=2, pythons=("3.11", "3.12"), cpu_milli=32_000, memory_bytes=1 << 41)
    assert rig.leased() == {rig.node_id("able"): 1}


def test_why_says_that_all_nodes_are_busy(rig) -> None:
    rig.node("a", window=1)
    job = rig.job()
    rig.submit(job, 2)

    assert "running on" in rig.owner.why(job, 0, rig.now)[0]
    busy = "the one node that could run it is busy: it has as many units as it takes at a time"
    assert rig.owner.why(job, 1, rig.now) == ["waiting", busy]


def test_why_names_who_is_believed(rig) -> None:
    node = rig.node("a")
    job = rig.job()
    rig.submit(job, 1)
    rig.answer(rig.leases[0])

    assert rig.owner.why(job, 0, rig.now) == [f"believed on the word of {to_text(node)[:8]} (trusted)"]


def test_few_units_are_dealt_evenly(rig) -> None:
    one, other = rig.node("a"), rig.node("b")
    job = rig.job()

    rig.submit(job, 4)

    assert rig.leased() == {one: 2, other: 2}


def test_units_that_come_one_by_one_are_dealt_evenly_as_well(rig) -> None:
    nodes = [rig.node(name) for name in "abc"]
    job = rig.job()

    for _ in range(6):
        rig.submit(job, 1)

    assert rig.leased() == dict.fromkeys(nodes, 2)


def test_a_node_that_proved_slow_gets_less(rig) -> None:
    fast, slow = rig.node("fast", slots=1), rig.node("slow", slots=1)
    job = rig.job()
    rig.submit(job, 20)
    assert rig.leased() == {fast: 10, slow: 10}
    for node, seconds in ((fast, 1.0), (slow, 9.0)):
        rig.now += seconds
        for lease in [lease for lease in rig.leases if lease.node == node]:
            rig.answer(lease)

    rig.submit(job, 44)

    assert rig.leased()[fast] >= 3 * rig.leased()[slow]


def test_a_huge_job_does_not_starve_a_small_one(rig) -> None:
    """Fairness goes by submitter first: a user with many jobs gets no more turns than a user with one."""
    rig.node("a", window=1, slots=1)
    huge = [rig.job(f"huge{number}", uid=1) for number in range(3)]
    small = rig.job("small", uid=2)
    for job in huge:
        rig.submit(job, 250)
    rig.submit(small, 2)

    order = []
    for _ in range(6):
        order.append(rig.leases[0].job)
        rig.answer(rig.leases[0])

    assert order.count(small) == 2
    assert len(set(order)) == 4


def test_a_crashed_unit_is_retried_on_another_node_first(rig) -> None:
    rig.node("a", window=1)
    rig.node("b", window=1)
    job = rig.job()
    rig.submit(job, 1)
    first = rig.leases[0]

    rig.fail(first, AttemptStatus.CRASHED, "signal 9")

    assert [(lease.node != first.node, lease.attempts) for lease in rig.leases] == [(True, [1])]


def test_a_retry_waits_for_another_node_though_the_one_that_failed_it_is_free(rig) -> None:
    rig.node("a", window=1)
    job = rig.job()
    rig.submit(job, 1)
    rig.node("b", window=1)
    rig.submit(job, 1)
    at_a, at_b = sorted(rig.leases, key=lambda lease: lease.node)

    rig.fail(at_a, AttemptStatus.CRASHED)
    assert [lease.node for lease in rig.leases] == [at_b.node]
    rig.answer(at_b)

    assert [(lease.node, lease.indices) for lease in rig.leases] == [(at_b.node, [0])]


def test_a_batch_whose_last_answer_is_of_a_retried_unit_is_taken_in(rig) -> None:
    """A first attempt and a retry end on different paths; together they once emptied a node's table twice."""
    node, job = rig.node("a"), rig.job()
    rig.submit(job, 1)
    rig.fail(rig.leases[0], AttemptStatus.CRASHED)
    rig.submit(job, 1)
    retried, fresh = rig.leases
    pairs = [rig.result(fresh, 0), rig.result(retried, 0)]

    rig.send(ResultsArrived(node, job, 1, [result for result, _ in pairs], [digest for _, digest in pairs]))

    assert sorted(rig.delivered[job]) == [0, 1]


def test_the_same_node_tries_again_if_there_is_no_other(rig) -> None:
    node, job = rig.node("a"), rig.job()
    rig.submit(job, 1)

    rig.fail(rig.leases[0], AttemptStatus.CRASHED)

    assert rig.leased() == {node: 1}


def test_a_unit_fails_after_its_failures_and_says_where_and_why(rig) -> None:
    rig.node("a")
    rig.node("b")
    job = rig.job(policy=Policy(failures_max=3))
    rig.submit(job, 1)
    rig.send(JobClosed(job))

    for reason in ("signal 9", "signal 11", "out of memory"):
        rig.fail(rig.leases[0], AttemptStatus.CRASHED, reason)

    outcome = rig.delivered[job][0]
    assert outcome.status is UnitStatus.FAILED
    assert all(reason in outcome.detail for reason in ("failed 3 times", "signal 9", "signal 11", "out of memory"))
    assert rig.finished[job].state == "failed"
    assert "signal 11" in rig.finished[job].reason


def test_units_that_are_handed_back_are_not_charged(rig) -> None:
    rig.node("a", window=1)
    rig.node("b", window=1)
    job = rig.job(policy=Policy(failures_max=1))
    rig.submit(job, 1)

    for _ in range(3):
        rig.fail(rig.leases[0], AttemptStatus.HANDED_BACK)
    rig.answer(rig.leases[0])

    assert rig.delivered[job][0].status is UnitStatus.RETURNED


@pytest.mark.parametrize("status", [AttemptStatus.REFUSED, AttemptStatus.HANDED_BACK])
def test_a_node_that_never_takes_a_job_is_asked_less_and_less(rig, status: AttemptStatus) -> None:
    """No refusal may become a loop: within an hour a node is asked a few dozen times, not millions."""
    rig.node("a")
    job = rig.job(policy=Policy(failures_max=1))
    rig.submit(job, 1)

    asked = 0
    while rig.now < 3_600:
        while rig.leases:
            asked += 1
            rig.fail(rig.leases[0], status, "the charter says no")
        assert rig.wake is not None
        assert any("is asked again in" in line for line in rig.owner.why(job, 0, rig.now))
        rig.now = rig.wake
        rig.send(Tick())

    assert 5 < asked < 40


def test_a_refusal_sends_the_unit_elsewhere_at_once(rig) -> None:
    rig.node("a", window=1)
    rig.node("b", window=1)
    job = rig.job()
    rig.submit(job, 1)
    first = rig.leases[0].node

    rig.fail(rig.leases[0], AttemptStatus.REFUSED)

    assert [lease.node != first for lease in rig.leases] == [True]


def test_a_lost_node_costs_only_its_own_units(rig) -> None:
    one, other = rig.node("a"), rig.node("b")
    job = rig.job()
    rig.submit(job, 100)

    rig.send(ExecutorLost(one, "connection reset"))
    rig.leases = [lease for lease in rig.leases if lease.node != one]

    assert rig.leased() == {other: 100}
    for lease in list(rig.leases):
        rig.answer(lease)
    assert len(rig.delivered[job]) == 100


def test_late_duplicate_foreign_and_stale_answers_change_nothing(rig) -> None:
    node, other = rig.node("a"), rig.node("b", window=0)
    job = rig.job()
    rig.submit(job, 1)
    lease = rig.leases[0]
    result, digest = rig.result(lease, 0)
    never_leased = AttemptResult(7, 0, AttemptStatus.RETURNED, b"", 0)
    wrong_attempt = AttemptResult(0, 1, AttemptStatus.RETURNED, b"", 0)

    assert rig.send(ResultsArrived(other, job, 1, [result], [digest])) == []
    assert rig.send(ResultsArrived(node, job, 2, [result], [digest])) == []
    assert rig.send(ResultsArrived(node, rig.job_id("other"), 1, [result], [digest])) == []
    assert rig.send(ResultsArrived(node, job, 1, [never_leased, wrong_attempt], [digest, digest])) == []
    assert rig.send(AttemptsFailed(node, job, 1, [result])) == []
    assert rig.delivered == {}
    rig.answer(lease)
    assert rig.send(ResultsArrived(node, job, 1, [result], [digest])) == []

    assert sum(rig.owner.strays().values()) == 7


def test_an_answer_to_an_attempt_that_was_lost_is_not_taken_for_its_retry(rig) -> None:
    node, job = rig.node("a"), rig.job()
    rig.submit(job, 1)
    old = rig.leases.pop()
    rig.send(ExecutorLost(node, "reset"))
    rig.node("a")
    assert [lease.attempts for lease in rig.leases] == [[1]]

    result, digest = rig.result(old, 0, b"late")
    rig.send(ResultsArrived(node, job, 1, [result], [digest]))
    assert rig.delivered == {}
    rig.answer(rig.leases[0])

    assert rig.delivered[job][0].value == b"right"


def test_cancelled_units_end_at_once_wherever_they_are(rig) -> None:
    node, job = rig.node("a", window=1), rig.job()
    rig.submit(job, 3)

    effects = rig.send(UnitsCancelled(job, [0, 1]))

    assert [outcome.status for outcome in rig.delivered[job].values()] == [UnitStatus.CANCELLED] * 2
    assert Recall(node, job, 1, [0]) in effects
    assert [lease.indices for lease in effects if isinstance(lease, Lease)] == [[2]]


def test_a_cancelled_job_closes_and_every_unit_ends(rig) -> None:
    node, job = rig.node("a", window=10), rig.job()
    rig.submit(job, 300)

    effects = rig.send(UnitsCancelled(job, None))

    assert Recall(node, job, 1, []) in effects
    assert {outcome.status for outcome in rig.delivered[job].values()} == {UnitStatus.CANCELLED}
    assert rig.finished[job].state == "cancelled"
    assert rig.owner.executors()[0].held_units == 0


def test_a_unit_that_must_not_run_twice_fails_when_it_may_have_run(rig) -> None:
    node, job = rig.node("a"), rig.job(policy=Policy(pure=False))
    rig.submit(job, 1)
    rig.fail(rig.leases[0], AttemptStatus.HANDED_BACK)
    assert rig.leased() == {node: 1}

    rig.leases.clear()
    rig.send(ExecutorLost(node, "reset"))

    assert rig.delivered[job][0].status is UnitStatus.FAILED
    assert "it may have run" in rig.delivered[job][0].detail
    rig.node("a")
    assert rig.leases == []


def test_a_unit_that_must_not_run_twice_fails_when_its_node_ended_it_for_reasons_of_its_own(rig) -> None:
    rig.node("a")
    job = rig.job(policy=Policy(pure=False))
    rig.submit(job, 1)
    rig.fail(rig.leases[0], AttemptStatus.INTERRUPTED)

    assert rig.delivered[job][0].status is UnitStatus.FAILED
    assert "it may have run" in rig.delivered[job][0].detail


def test_a_unit_that_its_node_ended_for_reasons_of_its_own_is_tried_again_uncharged(rig) -> None:
    rig.node("a")
    job = rig.job(policy=Policy(failures_max=1))
    rig.submit(job, 1)
    rig.fail(rig.leases[0], AttemptStatus.INTERRUPTED)

    assert job not in rig.delivered
    rig.leases.clear()
    rig.send(Tick())
    assert rig.owner.executors()[0].held_units == 1


def test_a_unit_that_must_not_run_twice_waits_for_a_trusted_node(rig) -> None:
    rig.node("a", trusted=False, operator="x")
    rig.node("b", trusted=False, operator="y")
    job = rig.job(policy=Policy(pure=False))
    rig.submit(job, 1)

    assert rig.leases == []
    assert any("needs a trusted node" in line for line in rig.owner.why(job, 0, rig.now))


def test_a_silent_node_with_a_session_keeps_its_lease_where_there_is_no_time_limit(rig) -> None:
    node, job = rig.node("a"), rig.job()
    rig.submit(job, 1)

    for _ in range(100):
        assert rig.wake is not None
        rig.now = rig.wake
        rig.send(Tick())

    assert rig.now > 3_600
    assert rig.leased() == {node: 1}
    assert rig.recalls == []


def test_a_silent_node_loses_a_unit_that_its_time_limit_has_long_passed(rig) -> None:
    node, job = rig.node("a"), rig.job(policy=Policy(timeout_ms=1_000))
    rig.submit(job, 1)
    other = rig.node("b")

    while not rig.recalls:
        assert rig.wake is not None
        rig.now = rig.wake
        rig.send(Tick())

    assert 10 < rig.now < 200
    assert rig.recalls == [Recall(node, job, 1, [0])]
    assert rig.leases[-1].node == other


def test_a_paused_job_gets_nothing_more_until_it_is_resumed(rig) -> None:
    rig.node("a")
    job = rig.job()
    rig.send(DeliveryPaused(job))
    rig.submit(job, 3)
    assert rig.leases == []
    assert any("does not read results" in line for line in rig.owner.why(job, 0, rig.now))

    rig.send(DeliveryResumed(job))

    assert len(rig.leases) == 1


def test_outcomes_of_a_detached_job_are_kept_and_others_are_not(rig) -> None:
    rig.node("a")
    kept, gone = rig.job("kept", detached=True), rig.job("gone")
    for job in (kept, gone):
        rig.submit(job, 3)
        rig.answer(rig.leases[0])

    assert [outcome.index for outcome in rig.owner.outcomes(kept)] == [0, 1, 2]
    assert rig.owner.outcomes(gone) == []


def test_a_summary_counts_what_happens(rig) -> None:
    rig.node("a", window=2)
    job = rig.job("counted")
    rig.now = 5.0
    rig.submit(job, 4)

    (summary,) = rig.owner.jobs()
    assert (summary.name, summary.units, summary.running, summary.waiting, summary.copies) == ("counted", 4, 2, 2, 2)
    rig.answer(rig.leases[0])
    rig.send(UnitsCancelled(job, None))

    (summary,) = rig.owner.jobs()
    assert (summary.state, summary.done, summary.cancelled, summary.ended) == ("cancelled", 2, 2, 5.0)
    assert summary.shares == {rig.node_id("a"): 2}


def test_a_forgotten_job_is_gone(rig) -> None:
    node, job = rig.node("a", window=1), rig.job()
    rig.submit(job, 3)

    rig.send(JobForgotten(job))

    assert rig.owner.jobs() == []
    assert Recall(node, job, 1, []) in rig.recalls
    assert rig.owner.why(job, 0, rig.now) == ["this node does not know that job"]


COMMAND = Needs(runtime=Runtime.COMMAND)
RUNS_COMMANDS = (Runtime.PYTHON, Runtime.COMMAND)


def test_a_time_out_of_a_command_is_final(rig) -> None:
    """The next node would take as long: `--timeout 1 -- sleep 20` ran three times."""
    rig.node("a", runtimes=RUNS_COMMANDS)
    rig.node("b", runtimes=RUNS_COMMANDS)
    job = rig.job(needs=COMMAND, policy=Policy(timeout_ms=1_000))
    rig.submit(job, 1)

    rig.fail(rig.leases[0], AttemptStatus.TIMED_OUT, "ran for longer than its 1 s")

    outcome = rig.delivered[job][0]
    assert (outcome.status, outcome.detail) == (UnitStatus.TIMED_OUT, "it ran for longer than its 1 s")
    assert not rig.leases


def test_a_stranger_can_not_end_a_command_by_saying_that_it_took_too_long(rig) -> None:
    for name in "abc":
        rig.node(name, trusted=False, operator=name, runtimes=RUNS_COMMANDS)
    job = rig.job(needs=COMMAND, policy=Policy(timeout_ms=1_000))
    rig.submit(job, 1)

    rig.fail(rig.leases[0], AttemptStatus.TIMED_OUT, "ran for longer than its 1 s")

    assert job not in rig.delivered
    assert len(rig.leases) == 2
