"""Where units go by what they need and what nodes offer; whoever's word was wrong comes last, and `why` says so."""

import pytest

from meshd_node.core.owner.events import CreditGranted, ExecutorChanged, ExecutorLost, GpusLookedAt, ResultsArrived
from meshd_node.core.owner.terms import Terms, lacks, places
from meshd_protocol.ids import result_digest
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus
from meshd_protocol.records import CageLevel, Gpu, Needs, Policy, Runtime

GIB = 1 << 30


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (Needs(runtime=Runtime.WASM), "needs the runtime wasm, it has python"),
        (Needs(gpus=1, gpu_memory_bytes=24 * GIB), "needs 1 GPU with 24576 MiB each, it has 16384 MiB"),
        (Needs(gpus=2), "needs 2 GPUs, it has 1"),
        (Needs(cpu_milli=2_001), "needs 2.001 cpus, it has 2"),
    ],
)
def test_why_names_what_is_missing(rig, needs: Needs, words: str):
    rig.node("a", gpus=1)
    job = rig.job(needs=needs)
    rig.submit(job, 1)

    assert rig.leases == []
    assert any(words in line for line in rig.owner.why(job, 0, rig.now))


def test_strangers_without_a_cage_get_nothing_under_the_default_trust(rig):
    for name in ("a", "b"):
        rig.node(name, operator=name, trusted=False, cage=CageLevel.NONE)
    job = rig.job()
    rig.submit(job, 1)

    assert rig.leases == []
    (line, _) = rig.owner.why(job, 0, rig.now)[1:]
    assert "it is another operator's, and its cage is none" in line
    assert "needs confined there" in line


def test_own_nodes_run_work_at_any_level(rig):
    rig.node("a", cage=CageLevel.NONE)
    rig.submit(rig.job(), 1)

    assert rig.leased() == {rig.node_id("a"): 1}


def test_a_submitter_that_names_a_quorum_takes_strangers_at_any_level(rig):
    for name in ("a", "b"):
        rig.node(name, operator=name, trusted=False, cage=CageLevel.NONE)
    rig.submit(rig.job(policy=Policy(replicas=2, quorum=2)), 1)

    assert len(rig.leased()) == 2


def test_wasm_needs_no_more_of_strangers_than_that_they_run_it(rig):
    for name in ("a", "b"):
        rig.node(name, operator=name, trusted=False, cage=CageLevel.WASM_ONLY, runtimes=(Runtime.WASM,))
    rig.submit(rig.job(needs=Needs(runtime=Runtime.WASM)), 1)

    assert len(rig.leased()) == 2


def test_large_units_go_to_idle_nodes_though_their_slots_are_many(rig):
    """Each node has eight slots and runs two units of four CPUs at once: the third is better off elsewhere."""
    for name in ("a", "b"):
        rig.node(name, slots=8)
    job = rig.job(needs=Needs(cpu_milli=4_000))
    for _ in range(4):
        rig.submit(job, 1)

    assert rig.leased() == {rig.node_id("a"): 2, rig.node_id("b"): 2}


@pytest.mark.parametrize(
    ("needs", "at_once"),
    [
        (Needs(), 8),
        (Needs(cpu_milli=3_000), 2),
        (Needs(memory_bytes=6 * GIB), 2),
        (Needs(gpus=1), 3),
        (Needs(gpus=2), 1),
        (Needs(cpu_milli=99_000), 1),
    ],
)
def test_how_many_run_at_once_is_what_is_scarcest(rig, needs: Needs, at_once: int):
    offer = rig.view("a", slots=8, gpus=3).offer

    assert places(offer, needs) == at_once


def test_slices_of_a_card_are_no_good_for_work_of_several_gpus(rig):
    view = rig.view("a")
    view.offer.gpus.extend([Gpu("MIG-1", "slice", 10 * GIB), Gpu("MIG-2", "slice", 10 * GIB)])

    assert not lacks(view.offer, Terms(Needs(gpus=1), CageLevel.NONE), trusted=True)
    assert "needs 2 whole GPUs" in lacks(view.offer, Terms(Needs(gpus=2), CageLevel.NONE), trusted=True)


# --- words that are not so --------------------------------------------------------------------------------------------


def work(rig, job, took_us: dict[bytes, int], rounds: int) -> None:
    """Let nodes answer what they get; a look is due in each round."""
    for _ in range(rounds):
        rig.submit(job, 12)
        for _ in range(12):
            for lease in list(rig.leases):
                rig.leases.remove(lease)
                rig.now += 0.01
                results = [
                    AttemptResult(index, attempt, AttemptStatus.RETURNED, b"right", took_us[lease.node])
                    for index, attempt in zip(lease.indices, lease.attempts, strict=True)
                ]
                digests = [result_digest(AttemptStatus.RETURNED, b"right")] * len(results)
                rig.send(ResultsArrived(lease.node, lease.job, lease.epoch, results, digests))
        rig.now += 6


def three(rig, **of_the_third: object) -> list[bytes]:
    return [rig.node("a", slots=1), rig.node("b", slots=1), rig.node("c", **{"slots": 1, **of_the_third})]


def doubts(rig) -> dict[bytes, str]:
    return {each.node: each.doubt for each in rig.owner.executors() if each.doubt}


def test_a_node_whose_units_show_a_fraction_of_its_word_comes_last(rig):
    one, two, boaster = three(rig, loops_per_s=100_000_000)
    job = rig.job()

    work(rig, job, {one: 10_000, two: 11_000, boaster: 10_000}, rounds=6)

    assert list(doubts(rig)) == [boaster]
    assert "times as long as its word" in doubts(rig)[boaster]
    rig.submit(job, 2)
    assert rig.leased() == {one: 1, two: 1}, "though it says it is ten times as fast"
    rig.submit(job, 1)
    assert rig.leased() == {one: 1, two: 1, boaster: 1}, "last is not never: no other node is idle"
    rig.submit(job, 800)
    assert any("comes last: its units take" in line for line in rig.owner.why(job, None, rig.now))


def test_a_slow_node_that_says_so_is_not_doubted(rig):
    one, two, slow = three(rig, loops_per_s=1_000_000)

    work(rig, rig.job(), {one: 10_000, two: 10_000, slow: 100_000}, rounds=6)

    assert not doubts(rig)


def test_with_one_other_node_nobody_knows_which_of_the_two_is_wrong(rig):
    one, boaster = rig.node("a", slots=1), rig.node("b", slots=1, loops_per_s=100_000_000)

    work(rig, rig.job(), {one: 10_000, boaster: 10_000}, rounds=6)

    assert not doubts(rig)


def test_one_slow_batch_is_no_reason_to_doubt(rig):
    one, two, third = three(rig)
    job = rig.job()
    work(rig, job, {one: 10_000, two: 10_000, third: 10_000}, rounds=2)
    work(rig, job, {one: 10_000, two: 10_000, third: 90_000}, rounds=1)
    work(rig, job, {one: 10_000, two: 10_000, third: 10_000}, rounds=2)

    assert not doubts(rig)


def test_doubt_outlives_the_session_and_ends_when_the_word_is_right_again(rig):
    one, two, boaster = three(rig, loops_per_s=100_000_000)
    took = {one: 10_000, two: 10_000, boaster: 10_000}
    work(rig, rig.job(), took, rounds=6)

    rig.send(ExecutorLost(boaster, "closed"))
    rig.send(ExecutorChanged(rig.view("c", slots=1)))
    rig.send(CreditGranted(boaster, 256, 1 << 22))
    assert doubts(rig), "a new session clears nobody"

    job = rig.job("another")
    rig.submit(job, 400)
    work(rig, job, took, rounds=8)
    assert not doubts(rig)


def test_a_node_that_showed_no_gpu_gets_no_work_that_needs_one(rig):
    liar = rig.node("a", gpus=1)
    rig.send(GpusLookedAt(liar, "it showed none of its GPUs in a spot check"))
    job, other = rig.job(needs=Needs(gpus=1)), rig.job("other")
    rig.submit(job, 1)
    rig.submit(other, 1)

    assert [lease.job for lease in rig.leases] == [other]
    assert any("it showed none of its GPUs" in line for line in rig.owner.why(job, 0, rig.now))
    rig.send(GpusLookedAt(liar, ""))
    assert [lease.job for lease in rig.leases] == [other, job]


def test_a_job_about_one_node_goes_to_no_other(rig):
    """The other is idle, and would do."""
    rig.node("a")
    rig.node("b")
    job = rig.job(only=rig.node_id("b"))
    rig.submit(job, 4)

    assert rig.leased() == {rig.node_id("b"): 4}
