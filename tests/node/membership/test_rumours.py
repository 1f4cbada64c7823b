"""What is passed on, how often, in which form and order."""

import random

import pytest

from meshd_node.core.membership import digests
from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Send
from meshd_node.core.membership.lane import RUMOURS_MAX, Lane, Rumour
from meshd_node.core.membership.roster import Roster
from meshd_node.core.membership.rumours import Rumours
from meshd_protocol.limits import STATE_BYTES_MAX
from meshd_protocol.messages.membership import Rumours as Message
from meshd_protocol.messages.membership import SignedState, StateWants, handle_of
from meshd_protocol.records import Claim, Slot, Verdict, Version


class Scene:
    """Rumours of node 0, whose roster has members 0 to 9 and whose peers are 1 to 9."""

    def __init__(self, kit, config: MembershipConfig | None = None) -> None:
        self.kit = kit
        self.roster = Roster(kit.node_of(0), config or MembershipConfig())
        self.states = {}
        for index in range(10):
            self.accept(index, Version(1, 1), kit.core(index))
            self.accept(index, Version(1, 2), kit.offer())
        self.rumours = Rumours(kit.node_of(0), random.Random(0), config or MembershipConfig(), self.roster)
        self.peers = {kit.node_of(index): None for index in range(1, 10)}

    def accept(self, index: int, version: Version, content):
        state = self.kit.verified(self.kit.node_of(index), version, content)
        assert self.roster.accept(state, 0.0) is not None
        self.states[index] = state
        return state

    def claim(self, accuser: int, accused: int):
        kit = self.kit
        return kit.claimed(Claim(kit.mesh, kit.node_of(accuser), kit.node_of(accused), Version(1, 2), Verdict.SUSPECT))

    def drain(self, until: float = 60.0) -> list[tuple[float, Send]]:
        """Everything that leaves until then."""
        sent = []
        while (now := max(0.0, self.rumours.next_at())) <= until:
            sent += [(now, effect) for effect in self.rumours.tick(now, self.peers)]
        return sent


@pytest.fixture
def scene(members_kit) -> Scene:
    return Scene(members_kit)


def wholes(sent) -> list[Send]:
    return [effect for _, effect in sent if effect.message.states]


def told(sent) -> list[Send]:
    return [effect for _, effect in sent if effect.message.digests]


def test_a_relay_passes_urgent_news_on_whole_once_and_then_by_its_digest(scene) -> None:
    scene.rumours.state(scene.states[5], urgent=True, teller=scene.kit.node_of(1))

    sent = scene.drain()

    assert len(wholes(sent)) == 1
    assert {effect.message.digests for effect in told(sent)} == {digests.of_state(scene.states[5].state)}
    # Six for each decimal of members + 1, one of them the teller's, who knows it.
    assert len(sent) in (11, 12)
    assert scene.kit.node_of(1) not in [effect.node for effect in wholes(sent)]


def test_a_relay_passes_a_refresh_on_by_its_digest_alone(scene) -> None:
    scene.rumours.state(scene.states[5], urgent=False, teller=scene.kit.node_of(1))

    assert wholes(scene.drain()) == []


def test_a_publisher_gives_its_own_state_whole_to_several(scene) -> None:
    scene.rumours.state(scene.states[0], urgent=False)

    assert len(wholes(scene.drain())) == MembershipConfig().fanout


def test_everybody_is_told_once_before_anybody_is_told_twice(scene) -> None:
    scene.rumours.state(scene.states[5], urgent=False)

    sent = [effect.node for _, effect in scene.drain()]

    assert len(set(sent)) == len(sent) == 6


def test_urgent_news_leaves_five_times_a_second_and_refreshes_once(scene) -> None:
    scene.rumours.state(scene.states[5], urgent=True)
    scene.rumours.state(scene.states[6], urgent=False)

    sent = scene.drain()
    urgent = digests.of_state(scene.states[5].state)

    assert sorted({when for when, effect in sent if urgent in effect.message.digests}) == pytest.approx(
        [0, 0.2, 0.4, 0.6]
    )
    slow = {when for when, effect in sent if digests.of_state(scene.states[6].state) in effect.message.digests}
    assert sorted(slow) == pytest.approx([0, 1.0])


def test_a_newer_version_takes_the_place_of_an_older_one(scene) -> None:
    scene.rumours.state(scene.states[5], urgent=True)
    newer = scene.accept(5, Version(1, 3), scene.kit.offer())
    scene.rumours.state(newer, urgent=False)

    sent = scene.drain()

    assert wholes(sent) == []
    assert {effect.message.digests for effect in told(sent)} == {digests.of_state(newer.state)}


def test_what_nobody_can_hear_waits(scene) -> None:
    scene.rumours.state(scene.states[5], urgent=True)

    assert scene.rumours.tick(0.0, {}) == []
    assert len(scene.rumours.tick(7.0, scene.peers)) == 3


def test_revocations_travel_ahead_of_claims_and_claims_ahead_of_states(scene) -> None:
    """Each message has room for little more than one record."""
    scene = Scene(scene.kit, MembershipConfig(rumour_bytes=60))
    scene.rumours.state(scene.states[5], urgent=True)
    scene.rumours.claim(scene.claim(6, 7), 0.0)
    scene.rumours.revocation(scene.kit.revocation(scene.kit.node_of(8)))

    first = scene.rumours.tick(0.0, scene.peers)

    assert all(effect.message.revocations for effect in first)
    assert not any(effect.message.states for effect in first)


def test_a_storm_of_claims_leaves_room_for_the_states_that_refute_them(scene) -> None:
    for accused in range(1, 9):
        for accuser in range(1, 9):
            scene.rumours.claim(scene.claim(accuser, accused), 0.0)
    scene.rumours.state(scene.states[5], urgent=True)

    assert wholes([(0.0, effect) for effect in scene.rumours.tick(0.0, scene.peers)])


def test_no_more_accusers_are_passed_on_than_it_takes_to_be_believed(scene) -> None:
    for accuser in range(1, 9):
        scene.rumours.claim(scene.claim(accuser, 9), 0.0)

    [first, *_] = scene.rumours.tick(0.0, scene.peers)

    assert len(first.message.claims) == MembershipConfig().claims


def test_refuted_claims_and_the_words_of_the_revoked_are_passed_on_no_more(scene) -> None:
    scene.rumours.claim(scene.claim(1, 2), 0.0)
    scene.rumours.claim(scene.claim(3, 4), 0.0)
    scene.rumours.state(scene.states[3], urgent=True)

    scene.rumours.refuted(scene.kit.node_of(2))
    scene.rumours.silence(scene.kit.node_of(3))

    assert scene.drain() == []


def test_a_record_above_the_budget_of_a_tick_still_travels(scene) -> None:
    """What its publisher was allowed to sign is not dropped on the way."""
    large = SignedState(bytes(STATE_BYTES_MAX), bytes(64))
    scene.rumours._refreshed.put((scene.kit.node_of(5), Slot.CORE), Rumour(large, b"d" * 17, 1, None))

    assert [effect.message.states for effect in wholes(scene.drain())] == [[large]]


def test_a_slow_tick_carries_no_more_than_its_budget(scene) -> None:
    for index in range(1, 10):
        for slot in Slot:
            scene.rumours._refreshed.put(
                (scene.kit.node_of(100 + index), slot), Rumour(SignedState(bytes(500), bytes(64)), b"d" * 17, 1, None)
            )

    for effect in scene.rumours.tick(0.0, scene.peers):
        assert sum(len(state.body) + 64 for state in effect.message.states) <= MembershipConfig().rumour_bytes


def test_a_full_lane_gives_up_what_was_passed_on_most(scene) -> None:
    lane: Lane[int] = Lane()
    for key in range(RUMOURS_MAX + 1):
        lane.put(key, Rumour(SignedState(b"", bytes(64)), b"d" * 17, 1, None))

    assert len(lane) == RUMOURS_MAX
    assert 0 not in lane


def test_what_a_digest_names_is_asked_of_one_peer_at_a_time(scene) -> None:
    newer = scene.kit.verified(scene.kit.node_of(5), Version(1, 3), scene.kit.offer())
    digest = digests.of_state(newer.state)
    one, other = scene.kit.node_of(1), scene.kit.node_of(2)

    [asked] = scene.rumours.heard(one, digest, 0.0)

    assert asked == Send(one, StateWants(handle_of(scene.kit.node_of(5), Slot.OFFER)))
    assert scene.rumours.heard(other, digest, 0.1) == []
    assert scene.rumours.heard(other, digest, 0.6) != []
    assert scene.rumours.answered(newer)
    assert not scene.rumours.answered(newer)


def test_of_a_stranger_both_slots_are_asked_for(scene) -> None:
    stranger = scene.kit.verified(scene.kit.node_of(77), Version(1, 3), scene.kit.offer())

    [asked] = scene.rumours.heard(scene.kit.node_of(1), digests.of_state(stranger.state), 0.0)

    assert asked.message.handles == b"".join(handle_of(scene.kit.node_of(77), slot) for slot in Slot)


@pytest.mark.parametrize("slot", [3, 0x81, 0xFF])
def test_digests_of_slots_that_nobody_knows_are_skipped(scene, slot) -> None:
    """A later release may have more of them."""
    digest = scene.kit.node_of(5)[:8] + bytes([slot]) + b"\xff" * 8

    assert scene.rumours.heard(scene.kit.node_of(1), digest, 0.0) == []


def test_a_known_or_older_version_is_not_asked_for(scene) -> None:
    told = digests.of_state(scene.states[5].state)

    assert scene.rumours.heard(scene.kit.node_of(1), told, 0.0) == []


def test_an_unknown_revocation_is_asked_for_and_a_known_one_is_not(scene) -> None:
    revocation = scene.kit.revocation(scene.kit.node_of(4))
    digest = digests.of_revocation(revocation)

    assert scene.rumours.heard(scene.kit.node_of(1), digest, 0.0) == [
        Send(scene.kit.node_of(1), StateWants(scene.kit.node_of(4)[:8] + b"\0"))
    ]
    scene.roster.revoke(revocation, 0.0)
    assert scene.rumours.heard(scene.kit.node_of(1), digest, 9.0) == []


def test_a_message_of_rumours_is_one_that_a_peer_can_read(scene) -> None:
    scene.rumours.revocation(scene.kit.revocation(scene.kit.node_of(4)))
    scene.rumours.claim(scene.claim(1, 2), 0.0)

    assert all(isinstance(effect.message, Message) for _, effect in scene.drain(3.0))


def test_a_flood_of_digests_is_read_as_far_as_one_peer_may_tell(scene) -> None:
    """70 KB of invented digests took 0.1 s to look up, and had as much asked of the liar."""
    liar, honest = scene.kit.node_of(1), scene.kit.node_of(2)
    invented = b"".join(index.to_bytes(8, "big") + bytes([Slot.CORE]) + bytes(8) for index in range(4_096))

    for _ in range(4):
        scene.rumours.heard(liar, invented, 0.0)

    newer = digests.of_state(scene.kit.verified(scene.kit.node_of(5), Version(1, 9), scene.kit.offer()).state)
    assert scene.rumours.heard(liar, newer, 0.0) == []
    assert scene.rumours.heard(honest, newer, 0.0)
    assert scene.rumours.heard(liar, invented, 60.0)
