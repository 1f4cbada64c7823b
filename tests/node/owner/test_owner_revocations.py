"""A node that is revoked holds nothing, and its word counts for nothing that is undecided."""

from meshd_node.core.owner.events import ExecutorLost, ExecutorRevoked
from meshd_protocol.messages.attempts import UnitStatus
from meshd_protocol.records import Policy

QUORUM = Policy(replicas=2, quorum=2)


def test_units_of_a_revoked_node_run_elsewhere_and_are_not_charged(rig) -> None:
    """Else whoever revokes a node that holds a unit three times makes that unit fail."""
    job = rig.job(policy=Policy(failures_max=1))
    a = rig.node("a")
    rig.submit(job, 4)
    assert rig.leased() == {a: 4}
    rig.leases.clear()

    rig.send(ExecutorRevoked(a))
    assert rig.leases == []
    b = rig.node("b")

    assert rig.leased() == {b: 4}
    for lease in list(rig.leases):
        rig.answer(lease)
    assert {outcome.status for outcome in rig.delivered[job].values()} == {UnitStatus.RETURNED}


def test_unit_that_must_not_run_twice_fails_with_its_node(rig) -> None:
    job = rig.job(policy=Policy(pure=False))
    a = rig.node("a")
    rig.submit(job, 1)

    rig.send(ExecutorRevoked(a))
    rig.node("b")

    (outcome,) = rig.delivered[job].values()
    assert outcome.status is UnitStatus.FAILED
    assert "was revoked" in outcome.detail


def test_vote_of_a_revoked_node_is_taken_back(rig) -> None:
    job = rig.job(policy=QUORUM)
    liar = rig.node("a", operator="liars", trusted=False)
    rig.node("b", operator="honest", trusted=False)
    rig.submit(job, 1)
    (from_liar,) = [lease for lease in rig.leases if lease.node == liar]
    (from_b,) = [lease for lease in rig.leases if lease.node != liar]
    rig.answer(from_liar, b"a lie")

    rig.send(ExecutorRevoked(liar))
    rig.answer(from_b)
    assert job not in rig.delivered
    rig.node("c", operator="others", trusted=False)
    (from_c,) = rig.leases
    rig.answer(from_c)

    (outcome,) = rig.delivered[job].values()
    assert outcome.value == b"right"
    assert rig.disagreements == [], "the lie was not even heard"


def test_lie_that_two_revoked_nodes_agreed_on_before_the_quorum_of_three_is_forgotten(rig) -> None:
    job = rig.job(policy=Policy(replicas=3, quorum=3))
    for name in ("a", "b", "c"):
        rig.node(name, operator=name, trusted=False)
    rig.submit(job, 1)
    first, second, third = sorted(rig.leases, key=lambda lease: lease.node)
    rig.answer(first, b"a lie")
    rig.answer(second, b"a lie")

    rig.send(ExecutorRevoked(first.node))
    rig.send(ExecutorRevoked(second.node))
    rig.answer(third)
    for name in ("d", "e"):
        rig.node(name, operator=name, trusted=False)
    for lease in list(rig.leases):
        rig.answer(lease)

    (outcome,) = rig.delivered[job].values()
    assert outcome.value == b"right"


def test_answer_of_a_revoked_node_that_was_under_way_is_of_no_effect(rig) -> None:
    job = rig.job()
    a = rig.node("a")
    rig.submit(job, 1)
    (lease,) = rig.leases

    rig.send(ExecutorRevoked(a))
    rig.answer(lease, b"too late")
    rig.send(ExecutorLost(a, "its session ended"))

    assert job not in rig.delivered
    assert rig.owner.strays()
    rig.node("b")
    rig.answer(rig.leases[0])
    assert rig.delivered[job][0].value == b"right"


def test_revoking_a_node_that_was_never_heard_of_changes_nothing(rig) -> None:
    job = rig.job()
    rig.node("a")
    rig.submit(job, 2)
    before = list(rig.leases)

    rig.send(ExecutorRevoked(rig.node_id("stranger")))

    assert rig.leases == before
