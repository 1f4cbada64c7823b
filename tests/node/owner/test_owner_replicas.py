"""Copies that are compared: quorums, voters, disagreements, trust."""

from meshd_node.core.owner.effects import Recall
from meshd_node.core.owner.events import ExecutorChanged, ExecutorLost, JobClosed
from meshd_node.core.owner.reasons import short
from meshd_protocol.messages.attempts import AttemptStatus, UnitStatus
from meshd_protocol.records import CageLevel, Needs, Policy


def strangers(rig, count: int, **view) -> list[bytes]:
    return [rig.node(f"s{number}", trusted=False, operator=f"op{number}", **view) for number in range(count)]


def test_copies_go_to_distinct_nodes_and_are_accepted_when_a_quorum_agrees(rig) -> None:
    nodes = {rig.node(name) for name in "abc"}
    job = rig.job(policy=Policy(replicas=3, quorum=2))
    rig.submit(job, 1)
    assert {lease.node for lease in rig.leases} == nodes
    assert sorted(lease.attempts[0] for lease in rig.leases) == [0, 1, 2]

    rig.answer(rig.leases[0])
    assert rig.delivered == {}
    rig.answer(rig.leases[0])

    assert rig.delivered[job][0].value == b"right"
    assert rig.recalls == [Recall(rig.leases[0].node, job, 1, [0])]
    assert all(executor.held_units == 0 for executor in rig.owner.executors())


def test_a_liar_is_outvoted_and_named(rig) -> None:
    for name in "abc":
        rig.node(name)
    job = rig.job(policy=Policy(replicas=2))
    rig.submit(job, 1)
    liar = rig.leases[0].node
    rig.answer(rig.leases[0], b"wrong")
    rig.answer(rig.leases[0])
    assert len(rig.leases) == 1
    assert rig.leases[0].node != liar

    rig.answer(rig.leases[0])

    assert rig.delivered[job][0].value == b"right"
    (report,) = rig.disagreements
    assert [(node, agreed) for node, _, agreed in report.votes if not agreed] == [(liar, False)]
    assert len(report.votes) == 3
    assert any(line.startswith("outvoted: ") for line in rig.owner.why(job, 0, rig.now))


def test_a_unit_whose_copies_never_agree_fails_and_names_them(rig) -> None:
    for name in "abcdefgh":
        rig.node(name)
    job = rig.job(policy=Policy(replicas=2))
    rig.submit(job, 1)

    answers = 0
    while rig.leases:
        rig.answer(rig.leases[0], b"answer %d" % answers)
        answers += 1

    outcome = rig.delivered[job][0]
    assert outcome.status is UnitStatus.FAILED
    assert outcome.detail.startswith("no 2 of ")
    assert answers <= 5
    assert rig.disagreements[0].accepted_digest is None


def test_one_copy_from_a_trusted_node_is_enough_by_default(rig) -> None:
    strangers(rig, 3)
    own, job = rig.node("own"), rig.job()

    rig.submit(job, 5)
    assert rig.leased() == {own: 5}
    rig.answer(rig.leases[0])

    assert len(rig.delivered[job]) == 5


def test_strangers_are_believed_in_pairs_by_default_and_a_third_decides(rig) -> None:
    strangers(rig, 3)
    job = rig.job()
    rig.submit(job, 1)
    assert len(rig.leases) == 2

    rig.answer(rig.leases[0], b"wrong")
    assert rig.delivered == {}
    rig.answer(rig.leases[0])
    rig.answer(rig.leases[0])

    assert rig.delivered[job][0].value == b"right"


def test_one_operator_has_one_vote_however_many_nodes(rig) -> None:
    """Node ids are free; operators were vouched for."""
    for name in "abc":
        rig.node(name, trusted=False, operator="sybil")
    job = rig.job(policy=Policy(replicas=2))
    rig.submit(job, 1)
    assert rig.leases == []
    (why,) = rig.owner.why(job, 0, rig.now)[1:]
    assert why.startswith("its quorum needs 2 distinct voters, and there is 1: ")
    assert all(short(rig.node_id(name)) in why for name in "abc")
    assert why.endswith("(nodes of one operator have one vote together, if they are not trusted)")

    rig.node("d", trusted=False, operator="honest")

    assert len(rig.leases) == 2
    assert len({lease.node for lease in rig.leases} & {rig.node_id(name) for name in "abc"}) == 1


def test_too_few_voters_wait_and_say_for_what(rig) -> None:
    strangers(rig, 1)
    job = rig.job()
    rig.submit(job, 1)

    assert rig.leases == []
    voter = short(rig.node_id("s0"))
    assert f"its quorum needs 2 distinct voters, and there is 1: {voter}" in rig.owner.why(job, 0, 0.0)
    assert any("needs 2 distinct voters" in line for line in rig.owner.why(job, None, 0.0))


def test_too_few_voters_are_said_with_why_no_other_node_is_one(rig) -> None:
    strangers(rig, 1)
    small = rig.node("small", trusted=False, operator="small", cpu_milli=1_000)
    loose = rig.node("loose", trusted=False, operator="loose", cage=CageLevel.NONE)
    job = rig.job(needs=Needs(cpu_milli=2_000))
    rig.submit(job, 1)

    why = rig.owner.why(job, 0, rig.now)

    assert f"{short(small)} can not run it: needs 2 cpus, it has 1" in why
    assert any(line.startswith(f"{short(loose)} can not run it: ") and "its cage is none" in line for line in why)
    assert len(why) == 4


def test_of_many_nodes_that_can_not_run_a_unit_some_are_named_and_the_others_counted(rig) -> None:
    for number in range(30):
        rig.node(f"n{number}")
    job = rig.job(needs=Needs(gpus=1))
    rig.submit(job, 1)

    why = rig.owner.why(job, 0, rig.now)

    assert len(why) == 10
    assert why[-1] == "and 22 more nodes that can not run it"


def test_a_disagreement_without_a_further_voter_waits_for_one(rig) -> None:
    strangers(rig, 2)
    job = rig.job()
    rig.submit(job, 1)
    rig.answer(rig.leases[0], b"wrong")
    rig.answer(rig.leases[0])
    assert any("needs one more voter" in line for line in rig.owner.why(job, 0, rig.now))

    rig.node("third", trusted=False, operator="third")
    rig.answer(rig.leases[0])

    assert rig.delivered[job][0].value == b"right"


def test_an_explicit_single_copy_believes_a_stranger(rig) -> None:
    strangers(rig, 1)
    job = rig.job(policy=Policy(replicas=1))
    rig.submit(job, 1)
    rig.answer(rig.leases[0])
    assert rig.delivered[job][0].value == b"right"


def test_a_node_that_lost_its_trust_meanwhile_is_not_believed_alone(rig) -> None:
    rig.node("own")
    job = rig.job()
    rig.submit(job, 1)
    rig.send(ExecutorChanged(rig.view("own", trusted=False, operator="x")))

    rig.answer(rig.leases[0])
    assert rig.delivered == {}
    rig.node("other", trusted=False, operator="y")
    rig.answer(rig.leases[0])

    assert rig.delivered[job][0].value == b"right"


def test_a_lost_replica_is_run_elsewhere(rig) -> None:
    for name in "abc":
        rig.node(name)
    job = rig.job(policy=Policy(replicas=2))
    rig.submit(job, 1)
    gone = rig.leases.pop(0)

    rig.send(ExecutorLost(gone.node, "reset"))

    assert len({lease.node for lease in rig.leases} - {gone.node}) == 2


def test_failures_of_replicas_are_charged_to_their_unit(rig) -> None:
    for name in "abcd":
        rig.node(name)
    job = rig.job(policy=Policy(replicas=2, failures_max=2))
    rig.submit(job, 1)
    rig.send(JobClosed(job))

    rig.fail(rig.leases[0], AttemptStatus.CRASHED, "signal 9")
    rig.fail(rig.leases[0], AttemptStatus.TIMED_OUT, "too long")

    assert rig.delivered[job][0].status is UnitStatus.FAILED
    assert rig.finished[job].state == "failed"
    assert all(executor.held_units == 0 for executor in rig.owner.executors())


def test_a_replicated_batch_goes_out_in_batches(rig) -> None:
    for name in "ab":
        rig.node(name)
    job = rig.job(policy=Policy(replicas=2))

    rig.submit(job, 200)

    assert sum(len(lease.indices) for lease in rig.leases) == 400
    assert len(rig.leases) == 2


def test_copies_that_all_differ_fail_once_nobody_is_left_to_ask(rig) -> None:
    """A function that uses the clock or its process id waited for ever for a node that would agree."""
    for name in "abc":
        rig.node(name)
    job = rig.job(policy=Policy(replicas=2, quorum=2))
    rig.submit(job, 1)
    for answer in (b"one", b"two", b"three"):
        rig.answer(rig.leases[0], answer)

    outcome = rig.delivered[job][0]
    assert outcome.status is UnitStatus.FAILED
    assert "does the function use random numbers" in outcome.detail


def test_two_copies_that_differ_wait_for_a_third_node(rig) -> None:
    """One of the two may lie, and whoever joins can tell which."""
    for name in "ab":
        rig.node(name)
    job = rig.job(policy=Policy(replicas=2, quorum=2))
    rig.submit(job, 1)
    rig.answer(rig.leases[0], b"wrong")
    rig.answer(rig.leases[0])
    assert rig.delivered == {}

    rig.node("c")
    rig.answer(rig.leases[0])

    assert rig.delivered[job][0].value == b"right"


def test_a_unit_whose_copies_all_differ_fails_when_the_last_node_that_could_tell_is_lost(rig) -> None:
    """It waited for ever: only a vote that came made the owner see that nobody was left to ask."""
    strangers(rig, 4)
    job = rig.job(policy=Policy(replicas=2))
    rig.submit(job, 1)
    rig.send(JobClosed(job))
    for answer in (b"one", b"two", b"three"):
        rig.answer(rig.leases[0], answer)
    (last,) = rig.leases

    rig.send(ExecutorLost(last.node, "reset"))

    assert rig.delivered[job][0].status is UnitStatus.FAILED
    assert rig.finished[job].state == "failed"
