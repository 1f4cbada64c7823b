"""Whatever peers do and say, in any order: a detector stays bounded, in time, and within what it may say."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from meshd_node.core.membership.effects import MemberState
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import Load, Probe, ProbeAck, ProbeReport, ProbeRequest
from meshd_protocol.records import Verdict, Version

OTHERS = st.integers(1, 20)
SEQUENCES = st.integers(0, 2**32 - 1)
VERSIONS = st.builds(Version, st.integers(0, 3), st.integers(0, 30))


def node_of(index: int) -> NodeId:
    return NodeId(index.to_bytes(20, "big"))


class DetectorRules(RuleBasedStateMachine):
    """One detector among up to 20 others, who may be anything."""

    make: Callable[..., Any]
    claim: Callable[..., Any]

    @initialize(index=st.integers(0, 20), members=st.sets(OTHERS))
    def begin(self, index: int, members: set[int]) -> None:
        self.here = self.make(index=index)
        self.index = index
        for member in sorted(members - {index}):
            self.here.join(member, linked=member % 3 > 0)
        self.claimed = 0
        self.refuted = 0
        self.evidence: set[int] = set()

    @rule(other=OTHERS, version=VERSIONS, addressed=st.booleans())
    def publish(self, other: int, version: Version, addressed: bool) -> None:
        if other != self.index:
            self.here.publish(node_of(other), version.sequence, version.epoch, ["h:1"] if addressed else [])

    @rule(other=OTHERS)
    def up(self, other: int) -> None:
        if other != self.index:
            self.here.up(other)

    @rule(other=OTHERS, refused=st.booleans())
    def down(self, other: int, refused: bool) -> None:
        self.evidence.add(other)
        self.here.down(other, refused=refused)

    @rule(other=OTHERS, refused=st.booleans())
    def dial_failed(self, other: int, refused: bool) -> None:
        self.evidence.add(other)
        self.here.dial_failed(other, refused=refused)

    @rule(accuser=OTHERS, accused=OTHERS, verdict=st.sampled_from(Verdict), version=VERSIONS)
    def told(self, accuser: int, accused: int, verdict: Verdict, version: Version) -> None:
        self.evidence.add(accused)
        self.here.told(self.claim(accuser, accused, verdict, version.sequence, version.epoch))

    @rule(other=OTHERS, sequence=SEQUENCES, suspected=st.none() | VERSIONS)
    def probed(self, other: int, sequence: int, suspected: Version | None) -> None:
        before = len(self.here.sent)
        self.here.hear(other, Probe(sequence, suspected))
        assert self.here.sent[before] == (node_of(other), ProbeAck(sequence, Load(0, 0)))

    @rule(other=OTHERS, whom=OTHERS, sequence=SEQUENCES)
    def asked(self, other: int, whom: int, sequence: int) -> None:
        self.here.hear(other, ProbeRequest(sequence, node_of(whom)))

    @rule(other=OTHERS, sequence=SEQUENCES, reached=st.booleans(), known=st.booleans())
    def answered(self, other: int, sequence: int, reached: bool, known: bool) -> None:
        """To a probe of ours, or out of the blue."""
        if known and self.here.sent:
            sequence = self.here.sent[-1][1].sequence
        self.here.hear(other, ProbeAck(sequence, Load(3, 4)))
        self.here.hear(other, ProbeReport(sequence, reached))

    @rule(
        seconds=st.sampled_from([0.0, 0.1, 1.0, 7.0, 60.0]),
        answering=st.sets(OTHERS),
        reporting=st.sampled_from([None, True, False]),
    )
    def time_passes(self, seconds: float, answering: set[int], reporting: bool | None) -> None:
        """`wait` ends: no deadline comes again and again."""
        before = self.here.now
        steps = 0
        while self.here.detector.next_at() <= before + seconds:
            at = self.here.detector.next_at()
            self.evidence |= set(range(21)) - answering
            self.here.wait(max(at, self.here.now), answering, reporting)
            steps += 1
            assert steps <= 100 + 200 * seconds, "it wakes without end"
        self.here.wait(before + seconds, answering, reporting)

    @rule()
    def refute(self) -> None:
        """The shell does what the last `PublishAnew` asked for."""
        if self.here.anew:
            own = self.here.roster.get(self.here.node).version
            self.here.publish(self.here.node, max(own, *self.here.anew).sequence + 1)

    @invariant()
    def nothing_that_is_due_was_left(self) -> None:
        assert self.here.detector.next_at() >= 0.0 or self.here.detector.next_at() == math.inf

    @invariant()
    def this_node_never_accuses_nor_buries_itself(self) -> None:
        assert self.here.roster.get(self.here.node).state is MemberState.ALIVE
        assert all(claim.accused != self.here.node and claim.accuser == self.here.node for claim in self.here.claims)

    @invariant()
    def claims_name_versions_that_are_or_were_held(self) -> None:
        for claim in self.here.claims[self.claimed :]:
            entry = self.here.roster.get(claim.accused)
            assert entry is not None
            assert claim.version <= entry.version
        self.claimed = len(self.here.claims)

    @invariant()
    def nobody_is_doubted_without_evidence(self) -> None:
        for index in range(21):
            entry = self.here.roster.get(node_of(index))
            if entry is not None and entry.state is not MemberState.ALIVE:
                assert index in self.evidence

    @invariant()
    def refutations_keep_their_pause(self) -> None:
        most = 2 + self.here.now / self.here.config.refute_pause_s
        assert len(self.here.anew) <= most

    @invariant()
    def neighbours_are_living_peers(self) -> None:
        living = set(self.here.roster.living())
        for node in self.here.detector.connected_neighbours():
            assert node in living
            assert node in self.here.detector.connected
            assert node != self.here.node

    @invariant()
    def health_has_bounds(self) -> None:
        assert 0 <= self.here.detector.health <= self.here.config.health_max


@pytest.mark.timeout(120)
def test_no_order_of_events_breaks_a_detector(watcher: Callable[..., Any], claim: Callable[..., Any]) -> None:
    class Rules(DetectorRules):
        make = staticmethod(watcher)

    Rules.claim = staticmethod(claim)
    run_state_machine_as_test(Rules, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
