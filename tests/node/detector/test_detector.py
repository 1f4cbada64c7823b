"""One detector: what is evidence, what is not, and what it says to whom."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from meshd_node.core.membership.effects import MemberState
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import Load, Probe, ProbeAck, ProbeReport, ProbeRequest
from meshd_protocol.records import Verdict, Version

Make = Callable[..., Any]


def node_of(index: int) -> NodeId:
    return NodeId(index.to_bytes(20, "big"))


# --- probing --------------------------------------------------------------------------------------------------------


def test_every_observed_member_is_probed_once_a_round(watcher: Make) -> None:
    here = watcher()
    here.join(*range(1, 8))
    probed: list[int] = []
    while len(probed) < 14:
        here.wait(here.detector.next_at(), answering=range(1, 8))
        probed += [node[-1] for node, message in here.played if isinstance(message, Probe)]

    assert sorted(probed[:7]) == sorted(probed[7:14]) == list(range(1, 8))


def test_an_unanswered_probe_is_repeated_through_three_others(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4, 5)
    here.wait(here.detector.next_at())
    [(target, probe)] = here.played

    here.wait(here.detector.next_at())

    requests = here.played
    assert len(requests) == 3
    assert all(message == ProbeRequest(probe.sequence, target) and node != target for node, message in requests)


def test_who_is_reached_through_others_is_not_suspected(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)

    here.wait(60.0, answering=[2, 3, 4], reporting=True)

    assert here.state(1) is MemberState.ALIVE
    assert here.claims == []


def test_who_nobody_reaches_is_suspected_claimed_and_buried(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)

    here.wait(6.0, answering=[2, 3, 4], reporting=False)
    assert here.state(1) is MemberState.SUSPECT
    assert [(claim.accused, claim.verdict) for claim in here.claims] == [(node_of(1), Verdict.SUSPECT)]

    here.wait(40.0, answering=[2, 3, 4], reporting=False)
    assert here.state(1) is MemberState.DEAD
    assert [claim.verdict for claim in here.claims] == [Verdict.SUSPECT, Verdict.DEAD]
    assert [claim.claim for claim in here.spread] == here.claims


def test_whom_newcomers_take_off_our_rings_within_a_period_is_not_doubted(watcher: Make) -> None:
    """Nobody would hear of the doubt, so nobody could end it: a member that lives would be buried here alone."""
    for seed in range(20):
        here = watcher(seed=seed)
        here.join(*range(1, 12))
        here.wait(here.detector.next_at())
        [(target, _)] = here.played
        here.join(*range(100, 200))
        if not here.detector.believes_accuser(here.node, target):
            break
    else:
        pytest.fail("a hundred newcomers leave everybody on our rings")
    here.wait(2.0, answering=range(100, 200), reporting=False)

    assert here.state(target[-1]) is MemberState.ALIVE


def test_a_peer_that_others_doubt_is_told_though_it_is_not_ours_to_probe(watcher: Make, claim: Make) -> None:
    """A claim may reach us and not the accused: with a session to it, one probe ends the matter."""
    here = watcher()
    here.join(*range(1, 120))
    theirs = [node for node in range(1, 120) if not here.detector.believes_accuser(here.node, node_of(node))]
    accused = theirs[0]
    accuser = next(
        node
        for node in range(1, 120)
        if node != accused and here.detector.believes_accuser(node_of(node), node_of(accused))
    )
    here.sent.clear()
    here.told(claim(accuser, accused, Verdict.SUSPECT))

    told = [message for node, message in here.sent if node == node_of(accused) and isinstance(message, Probe)]
    assert [probe.suspected for probe in told] == [Version(1, 1)]


def test_who_is_buried_while_there_is_a_session_with_it_is_told(watcher: Make, claim: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4, 5, 6)
    for index in (2, 3, 4, 5):
        here.told(claim(index, 1, Verdict.DEAD))
    while here.state(1) is not MemberState.DEAD:
        here.now = here.detector.next_at()
        here.sent.clear()
        here.take(here.detector.tick(here.now))

    assert [message.suspected for node, message in here.of_kind(Probe) if node == node_of(1)] == [Version(1, 1)]


def test_two_nodes_alone_decide_alone(watcher: Make) -> None:
    here = watcher()
    here.join(1)

    here.wait(10.0)

    assert here.state(1) is MemberState.DEAD


def test_a_node_alone_waits_for_nothing(watcher: Make) -> None:
    here = watcher()

    here.wait(100.0)

    assert here.detector.next_at() == math.inf
    assert (here.effects, here.sent, here.dials) == ([], [], [])


def test_two_nodes_that_can_not_reach_each_other_are_no_evidence(watcher: Make) -> None:
    """Both are behind a translation of addresses; the others hear from both."""
    here = watcher()
    here.join(2, 3, 4)
    here.join(1, linked=False)
    for _ in range(40):
        here.wait(here.now + 1.0, answering=[2, 3, 4], reporting=True)
        here.dial_failed(1)

    assert here.state(1) is MemberState.ALIVE
    assert here.claims == []


def test_a_newcomer_is_not_suspected_before_anybody_tried_to_reach_it(watcher: Make) -> None:
    here = watcher()
    here.join(2, 3, 4)
    here.join(1, linked=False)

    here.wait(30.0, answering=[2, 3, 4], reporting=False)

    assert here.state(1) is MemberState.ALIVE


def test_helpers_are_dialled_where_none_has_a_session_with_us(watcher: Make) -> None:
    """In a large mesh two ring neighbours seldom have neighbours in common."""
    here = watcher()
    here.join(*range(1, 300))
    neighbours = set(here.detector.connected_neighbours())
    for node in set(here.detector.connected) - neighbours:
        here.take(here.detector.peer_down(node, here.now, refused=False))
    here.dials.clear()
    while not here.dials:
        here.wait(here.detector.next_at())

    helper = here.dials[0]
    assert helper not in neighbours
    here.take(here.detector.peer_up(helper, here.now))
    assert [message.target for node, message in here.sent if node == helper and isinstance(message, ProbeRequest)]


def test_load_rides_on_answers(watcher: Make) -> None:
    here = watcher()
    here.join(1)

    here.wait(2.5, answering=[1])

    entry = here.roster.get(node_of(1))
    assert entry.load == Load(1, 2)


def test_an_acknowledgement_that_answers_no_probe_says_nothing(watcher: Make) -> None:
    here = watcher()
    here.join(1)

    here.hear(1, ProbeAck(12345, Load(9, 9)))

    assert here.roster.get(node_of(1)).load is None


def test_a_node_that_stood_still_hears_before_it_judges(watcher: Make, claim: Make) -> None:
    """Answers and refutations wait in its sockets: whoever it judged by its clock alone would be slandered."""
    here = watcher()
    here.join(1, 2, 3, 4)
    here.wait(here.detector.next_at())
    here.told(claim(2, 1, Verdict.SUSPECT))

    here.now = 120.0
    here.take(here.detector.tick(here.now))

    assert here.claims == []
    assert here.state(1) is MemberState.SUSPECT
    here.publish(node_of(1), 2)
    here.wait(130.0, answering=[1, 2, 3, 4])
    assert [here.state(index) for index in range(1, 5)] == [MemberState.ALIVE] * 4


# --- links ----------------------------------------------------------------------------------------------------------


def test_an_end_of_stream_with_a_refused_redial_is_evidence_at_once(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)

    here.down(1, refused=True)

    assert here.state(1) is MemberState.SUSPECT
    assert [claim.verdict for claim in here.claims] == [Verdict.SUSPECT]
    here.wait(here.config.refused_s, answering=[2, 3, 4])
    assert here.state(1) is MemberState.DEAD


def test_a_reset_whose_redial_is_refused_is_the_same_evidence(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)
    here.down(1)
    assert here.state(1) is MemberState.ALIVE

    here.dial_failed(1, refused=True)

    assert here.state(1) is MemberState.SUSPECT


def test_an_address_that_was_never_reached_may_refuse(watcher: Make) -> None:
    """It may be of the network on the other side of a router."""
    here = watcher()
    here.join(2, 3)
    here.join(1, linked=False)

    here.dial_failed(1, refused=True)

    assert here.state(1) is MemberState.ALIVE


def test_a_refusal_that_others_met_does_not_shorten_our_wait(watcher: Make, claim: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)
    here.told(claim(2, 1, Verdict.SUSPECT))

    here.wait(5 * here.config.refused_s / 2, answering=[1, 2, 3, 4])

    assert here.state(1) is MemberState.SUSPECT


def test_a_suspect_that_comes_back_is_told_and_its_time_begins_again(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)
    here.down(1, refused=True)
    here.sent.clear()

    here.up(1)

    assert [(node, message.suspected) for node, message in here.of_kind(Probe)] == [(node_of(1), Version(1, 1))]
    here.wait(here.now + 3 * here.config.refused_s, answering=[1, 2, 3, 4])
    assert here.state(1) is MemberState.SUSPECT


def test_one_that_was_buried_is_told_when_it_comes_back(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)
    here.down(1, refused=True)
    here.wait(5.0, answering=[2, 3, 4])
    assert here.state(1) is MemberState.DEAD

    here.up(1)
    assert [message.suspected for node, message in here.of_kind(Probe) if node == node_of(1)] == [Version(1, 1)]

    here.publish(node_of(1), 2)
    assert here.state(1) is MemberState.ALIVE
    here.wait(here.now + 30.0, answering=[1, 2, 3, 4])
    assert here.state(1) is MemberState.ALIVE


# --- claims ---------------------------------------------------------------------------------------------------------


def test_a_claim_of_an_observer_is_counted_and_told_once(watcher: Make, claim: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)

    here.told(claim(2, 1, Verdict.SUSPECT))
    here.told(claim(2, 1, Verdict.SUSPECT))

    assert here.state(1) is MemberState.SUSPECT
    assert len(here.spread) == 1
    assert here.detector.holds_claim(node_of(2), node_of(1), Version(1, 1), Verdict.SUSPECT)


@pytest.mark.parametrize(
    ("accuser", "sequence", "epoch", "why"),
    [
        (99, 5, 1, "a stranger's"),
        (2, 4, 1, "about an older version"),
        (2, 5, 0, "about an earlier start"),
        (2, 5, 2, "about a start that nobody heard of"),
        (2, 5 + 17, 1, "about a version that its publisher may never reach"),
    ],
)
def test_claims_that_could_not_be_refuted_or_are_already_count_for_nothing(
    watcher: Make, claim: Make, accuser: int, sequence: int, epoch: int, why: str
) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)
    here.publish(node_of(1), 5)

    here.told(claim(accuser, 1, Verdict.SUSPECT, sequence, epoch))

    assert here.state(1) is MemberState.ALIVE, why
    assert here.spread == []


def test_in_a_large_mesh_only_observers_may_accuse(watcher: Make, claim: Make) -> None:
    here = watcher()
    here.join(*range(1, 200))
    believed = [index for index in range(2, 200) if here.detector.believes_accuser(node_of(index), node_of(1))]
    assert 10 <= len(believed) <= 20

    for index in range(2, 200):
        if index not in believed:
            here.told(claim(index, 1, Verdict.DEAD))

    here.wait(here.now + 5.0, answering=range(1, 200))
    assert here.state(1) is MemberState.ALIVE


def test_a_newer_version_refutes_every_claim(watcher: Make, claim: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4, 5, 6)
    for index in (2, 3, 4, 5):
        here.told(claim(index, 1, Verdict.DEAD))

    here.publish(node_of(1), 2)

    assert here.state(1) is MemberState.ALIVE
    here.wait(60.0, answering=range(1, 7))
    assert here.state(1) is MemberState.ALIVE


def test_what_a_claim_named_ahead_is_not_refuted_by_less(watcher: Make, claim: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)
    here.told(claim(2, 1, Verdict.SUSPECT, 3))

    here.publish(node_of(1), 2)
    assert here.state(1) is MemberState.SUSPECT

    here.publish(node_of(1), 4)
    assert here.state(1) is MemberState.ALIVE


def test_the_probe_of_a_suspect_says_so(watcher: Make, claim: Make) -> None:
    """It hears of it though no rumour reaches it; and it is probed next, whoever's turn it was."""
    here = watcher()
    here.join(1, 2, 3, 4)
    here.wait(5.0, answering=range(1, 5))
    here.told(claim(2, 1, Verdict.SUSPECT))

    while not any(isinstance(message, Probe) for _, message in here.sent):
        here.now = here.detector.next_at()
        here.take(here.detector.tick(here.now))

    [(node, probe)] = here.of_kind(Probe)
    assert (node, probe.suspected) == (node_of(1), Version(1, 1))


# --- this node accused ----------------------------------------------------------------------------------------------


def test_an_accused_node_refutes_at_once(watcher: Make, claim: Make) -> None:
    here = watcher()
    here.join(1, 2, 3)

    here.told(claim(1, 0, Verdict.SUSPECT))

    assert here.anew == [Version(1, 1)]
    assert here.detector.health == 1
    assert here.spread == []


def test_a_suspecting_probe_is_refuted_too(watcher: Make) -> None:
    here = watcher()
    here.join(1)

    here.hear(1, Probe(7, Version(1, 1)))

    assert here.sent[-1] == (node_of(1), ProbeAck(7, Load(0, 0)))
    assert here.anew == [Version(1, 1)]


def test_refutations_are_bounded_however_often_somebody_accuses(watcher: Make, claim: Make) -> None:
    """Each one travels through the whole mesh: a liar must not be able to make this node flood it."""
    here = watcher()
    here.join(1, 2, 3)
    for step in range(1000):
        here.wait(step * 0.01, answering=[1, 2, 3])
        version = here.roster.get(node_of(0)).version
        here.told(claim(1, 0, Verdict.SUSPECT, version.sequence))
        if here.anew and here.anew[-1] == version:
            here.publish(node_of(0), version.sequence + 1)

    assert 15 <= len(here.anew) <= 21


def test_a_peer_that_says_in_every_probe_that_this_node_is_doubted_is_heeded_seldom(watcher: Make) -> None:
    """It need not observe anybody nor sign anything, and can say it to every member of the mesh."""
    here = watcher()
    here.join(1, 2, 3)
    for step in range(120):
        here.wait(step * 0.5, answering=[1, 2, 3])
        version = here.roster.get(node_of(0)).version
        here.hear(1, Probe(step, version))
        if here.anew and here.anew[-1] == version:
            here.publish(node_of(0), version.sequence + 1)
    assert 10 <= len(here.anew) <= 15

    version = here.roster.get(node_of(0)).version
    here.hear(2, Probe(1, version))
    here.wait(here.now + 1.0, answering=[1, 2, 3])

    assert here.anew[-1] == version


def test_what_could_not_be_refuted_at_once_is_refuted_soon(watcher: Make) -> None:
    here = watcher()
    here.join(1)
    here.hear(1, Probe(1, Version(1, 1)))
    here.publish(node_of(0), 2)
    here.hear(1, Probe(2, Version(1, 2)))
    here.hear(1, Probe(3, Version(0, 7)))
    assert here.anew == [Version(1, 1)]

    here.wait(here.config.refute_pause_s, answering=[1])

    assert here.anew == [Version(1, 1), Version(1, 2)]


def test_who_doubts_a_version_that_is_past_is_told_the_present_one(watcher: Make) -> None:
    """It missed the refutation: after a split, one such view in 4,096 lived on until a lease or a repair ended it."""
    here = watcher()
    here.join(1)
    here.publish(node_of(0), 2)

    here.hear(1, Probe(1, Version(1, 1)))

    assert here.anew == []
    assert [node for node, _ in here.caught_up] == [node_of(1)]


@pytest.mark.parametrize("suspected", [Version(1, 0), Version(0, 9), Version(2, 0), Version(2**32 - 1, 2**32 - 1)])
def test_versions_that_this_node_never_had_are_not_refuted(watcher: Make, suspected: Version) -> None:
    """Else one liar would use up all versions that there are."""
    here = watcher()
    here.join(1)

    here.hear(1, Probe(1, suspected))

    assert here.anew == []


def test_one_liar_does_not_make_this_node_unwell_for_long(watcher: Make, claim: Make) -> None:
    here = watcher()
    here.join(1, 2, 3)
    for sequence in range(1, 30):
        here.told(claim(1, 0, Verdict.SUSPECT, sequence))
        here.publish(node_of(0), sequence + 1)

    assert here.detector.health == 1
    here.wait(5.0, answering=[1, 2, 3])
    assert here.detector.health == 0


# --- errands --------------------------------------------------------------------------------------------------------


def test_a_helper_reports_that_it_reached_the_target(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2)
    here.hear(1, ProbeRequest(77, node_of(2)))
    [(target, probe)] = here.of_kind(Probe)
    assert target == node_of(2)

    here.hear(2, ProbeAck(probe.sequence, Load(0, 0)))

    assert here.of_kind(ProbeReport) == [(node_of(1), ProbeReport(77, True))]


def test_a_helper_reports_that_it_did_not(watcher: Make) -> None:
    """The asker learns that it is not its own link that is silent."""
    here = watcher()
    here.join(1, 2)
    here.hear(1, ProbeRequest(77, node_of(2)))
    here.sent.clear()
    while not here.of_kind(ProbeReport):
        here.now = here.detector.next_at()
        here.take(here.detector.tick(here.now))

    assert here.of_kind(ProbeReport) == [(node_of(1), ProbeReport(77, False))]
    assert here.now < here.config.probe_timeout_s


def test_a_helper_without_a_session_says_so_at_once(watcher: Make) -> None:
    here = watcher()
    here.join(1)
    here.join(2, linked=False)

    here.hear(1, ProbeRequest(77, node_of(2)))

    assert here.of_kind(ProbeReport) == [(node_of(1), ProbeReport(77, False))]
    assert here.of_kind(Probe) == []


def test_another_nodes_acknowledgement_does_not_vouch_for_the_target(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2, 3)
    here.hear(1, ProbeRequest(77, node_of(2)))
    [(_, probe)] = here.of_kind(Probe)

    here.hear(3, ProbeAck(probe.sequence, Load(0, 0)))

    assert here.of_kind(ProbeReport) == []


def test_nobody_makes_a_helper_probe_without_bound(watcher: Make) -> None:
    here = watcher()
    here.join(*range(1, 100))
    for sequence in range(100):
        here.hear(1, ProbeRequest(sequence, node_of(2)))
    assert len(here.of_kind(Probe)) <= 4

    for asker in range(3, 100):
        for sequence in range(3):
            here.hear(asker, ProbeRequest(sequence, node_of(2)))
    assert len(here.of_kind(Probe)) <= here.config.errands_max


# --- local health ---------------------------------------------------------------------------------------------------


def test_silent_helpers_make_this_node_doubt_itself(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)

    here.wait(3.0)

    assert here.detector.health >= 3


def test_helpers_that_report_spare_it_the_doubt(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2, 3, 4)

    here.wait(20.0, answering=[2, 3, 4], reporting=False)

    assert here.detector.health == 0
