"""How long a suspicion lasts, and whose word makes it shorter."""

import math

import pytest

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.suspicion import Suspicions
from meshd_protocol.ids import MeshId, NodeId
from meshd_protocol.records import Claim, Verdict, Version

CONFIG = MembershipConfig()
ACCUSED = NodeId(b"x" * 20)
VERSION = Version(1, 1)


def node_of(index: int) -> NodeId:
    return NodeId(index.to_bytes(20, "big"))


def claim(index: int, verdict: Verdict = Verdict.SUSPECT, version: Version = VERSION) -> Claim:
    return Claim(MeshId(b"m" * 20), node_of(index), ACCUSED, version, verdict)


@pytest.mark.parametrize("members", [16, 128, 1024])
def test_a_suspicion_lasts_as_lifeguard_says(members: int) -> None:
    """max - (max - min) * ln(c + 1) / ln(k + 1), with c confirmations besides the first accuser."""
    suspicions = Suspicions(CONFIG)
    shortest = 3.0 * math.log10(members)
    for confirmed in range(5):
        suspicions.count(claim(confirmed), members, 10.0, observer=True)
        share = min(1.0, math.log(confirmed + 1) / math.log(4))
        assert suspicions.next_at() == pytest.approx(10.0 + 6 * shortest - 5 * shortest * share)


@pytest.mark.parametrize(("members", "expected"), [(2, 3.0), (3, 18.0), (4, 18.0)])
def test_two_nodes_do_not_wait_for_confirmations_that_nobody_can_give(members: int, expected: float) -> None:
    suspicions = Suspicions(CONFIG)

    suspicions.witness(node_of(0), ACCUSED, VERSION, members, 0.0)

    assert suspicions.next_at() == pytest.approx(expected)


def test_one_accuser_who_repeats_itself_confirms_nothing() -> None:
    suspicions = Suspicions(CONFIG)
    suspicions.count(claim(1), 128, 0.0, observer=True)
    at = suspicions.next_at()

    assert not suspicions.count(claim(1), 128, 1.0, observer=True)
    assert suspicions.next_at() == at


def test_claims_that_confirm_nothing_more_are_not_worth_telling() -> None:
    """Else every suspicion would cost the mesh the claims of all observers."""
    suspicions = Suspicions(CONFIG)

    told = [suspicions.count(claim(index), 128, 0.0, observer=True) for index in range(10)]

    assert told == [True] * 4 + [False] * 6


def test_four_observers_that_agree_are_believed_when_the_accused_had_time_to_refute() -> None:
    suspicions = Suspicions(CONFIG)
    for index in range(3):
        suspicions.count(claim(index, Verdict.DEAD), 128, 0.0, observer=True)
    assert suspicions.next_at() > CONFIG.refute_s

    suspicions.count(claim(3, Verdict.DEAD), 128, 0.5, observer=True)

    assert suspicions.next_at() == CONFIG.refute_s


def test_who_only_might_observe_confirms_a_death_and_does_not_decide_it() -> None:
    """Accepting twice as many accusers must not make it twice as easy for liars to be four."""
    suspicions = Suspicions(CONFIG)
    for index in range(12):
        suspicions.count(claim(index, Verdict.DEAD), 128, 0.0, observer=False)

    assert suspicions.next_at() == pytest.approx(3.0 * math.log10(128))


def test_one_other_node_of_three_never_decides_a_death() -> None:
    suspicions = Suspicions(CONFIG)

    suspicions.count(claim(1, Verdict.DEAD), 3, 0.0, observer=True)

    assert suspicions.next_at() > CONFIG.suspicion * CONFIG.probe_s


def test_a_refused_redial_shortens_the_wait_and_an_answer_ends_that() -> None:
    suspicions = Suspicions(CONFIG)
    suspicions.witness(node_of(0), ACCUSED, VERSION, 128, 0.0)
    suspicions.refused(ACCUSED, 128, 0.25)
    assert suspicions.next_at() == 0.25 + CONFIG.refused_s

    suspicions.answered(ACCUSED, 128, 0.5)

    assert suspicions.next_at() == pytest.approx(0.5 + 18.0 * math.log10(128))


def test_who_is_due_is_taken_out_and_who_was_dropped_is_not_due() -> None:
    suspicions = Suspicions(CONFIG)
    suspicions.count(claim(1), 16, 0.0, observer=True)
    [(node, suspicion)] = suspicions.pop_due(100.0)
    assert (node, suspicion.version) == (ACCUSED, VERSION)

    suspicions.count(claim(1), 16, 0.0, observer=True)
    suspicions.drop(ACCUSED)

    assert suspicions.pop_due(100.0) == []
    assert suspicions.next_at() == math.inf


def test_a_known_word_is_held_and_a_worse_or_newer_one_is_not() -> None:
    suspicions = Suspicions(CONFIG)
    suspicions.count(claim(1), 16, 0.0, observer=True)

    assert suspicions.holds(node_of(1), ACCUSED, VERSION, Verdict.SUSPECT)
    assert not suspicions.holds(node_of(1), ACCUSED, VERSION, Verdict.DEAD)
    assert not suspicions.holds(node_of(1), ACCUSED, Version(1, 2), Verdict.SUSPECT)
    assert not suspicions.holds(node_of(2), ACCUSED, VERSION, Verdict.SUSPECT)
