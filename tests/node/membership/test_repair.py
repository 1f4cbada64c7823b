"""What two nodes find out that they lack of each other, and what a peer may cost."""

import random

import pytest

from meshd_node.core.allowance import Allowance
from meshd_node.core.membership import digests
from meshd_node.core.membership.comparison import compare, tell
from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Dial, Send
from meshd_node.core.membership.packing import pack
from meshd_node.core.membership.repair import Repair
from meshd_node.core.membership.roster import Roster
from meshd_protocol.limits import CONTROL_BYTES_MAX, STATES_PER_MESSAGE_MAX
from meshd_protocol.messages.membership import BucketDigests, Probe, SignedState, States, StateWants, Summary
from meshd_protocol.messages.peer import PEER
from meshd_protocol.records import Phase, Slot, Version


def roster_of(kit, *indices: int, version: Version | None = None) -> Roster:
    roster = Roster(kit.node_of(0), MembershipConfig())
    for index in indices:
        hold(roster, kit, index, version or Version(1, 1))
    return roster


def hold(roster: Roster, kit, index: int, version: Version, phase: Phase = Phase.ALIVE) -> None:
    node = kit.node_of(index)
    roster.accept(kit.verified(node, version, kit.core(index)), 0.0)
    offer = kit.verified(node, Version(version.epoch, version.sequence + 1), kit.offer(phase))
    assert roster.accept(offer, 0.0) is not None


def told_by(roster: Roster) -> BucketDigests:
    told = tell(roster, 4, range(4), 0.0)
    assert told is not None
    return told


def test_equal_views_have_equal_hashes_and_lack_nothing(members_kit) -> None:
    one, other = roster_of(members_kit, 1, 2, 3), roster_of(members_kit, 3, 2, 1)

    found = compare(one, told_by(other))

    assert one.shelves.root == other.shelves.root
    assert (found.states, found.wants, found.disputed, found.revocations) == ([], [], [], [])


def test_each_gets_what_is_newer_at_the_other(members_kit) -> None:
    one, other = roster_of(members_kit, 1, 2), roster_of(members_kit, 2, 3)
    hold(other, members_kit, 2, Version(2, 1))

    found = compare(one, told_by(other))

    assert [len(states) for states in found.states] == [2]
    prefixes = {wanted[:8] for wanted in found.wants}
    assert prefixes == {members_kit.node_of(2)[:8], members_kit.node_of(3)[:8]}
    assert len(found.wants) == 4


def test_the_dead_are_not_handed_to_somebody_who_never_knew_them(members_kit) -> None:
    """Else an old tombstone would wander from newcomer to newcomer for ever."""
    one, other = roster_of(members_kit, 1), roster_of(members_kit)
    one.bury(members_kit.node_of(1), Version(1, 2), 1.0)

    assert compare(one, BucketDigests(1, b"\0", b"")).states == []
    assert compare(other, told_by(one)).wants == []


def test_whoever_is_dead_to_one_and_living_to_the_other_is_disputed_on_both_sides(members_kit) -> None:
    one, other = roster_of(members_kit, 1), roster_of(members_kit, 1)
    one.bury(members_kit.node_of(1), Version(1, 2), 1.0)

    assert one.shelves.root != other.shelves.root
    assert compare(one, told_by(other)).disputed == [(members_kit.node_of(1), Version(1, 2))]
    assert compare(other, told_by(one)).disputed == [(members_kit.node_of(1), Version(1, 2))]


def test_a_newer_version_settles_a_dispute_by_itself(members_kit) -> None:
    one, other = roster_of(members_kit, 1), roster_of(members_kit, 1)
    one.bury(members_kit.node_of(1), Version(1, 2), 1.0)
    hold(other, members_kit, 1, Version(1, 3))

    found = compare(one, told_by(other))

    assert found.disputed == []
    assert len(found.wants) == 2


def test_who_has_left_is_no_dispute_but_news(members_kit) -> None:
    one, other = roster_of(members_kit, 1), roster_of(members_kit, 1)
    hold(one, members_kit, 1, Version(1, 3), Phase.LEFT)

    assert len(compare(other, told_by(one)).wants) == 2
    found = compare(one, told_by(other))
    assert ([len(states) for states in found.states], found.disputed) == ([2], [])


def test_revocations_are_compared_like_states_and_nothing_of_the_revoked_travels(members_kit) -> None:
    one, other = roster_of(members_kit, 1), roster_of(members_kit, 1)
    revocation = members_kit.revocation(members_kit.node_of(1))
    one.revoke(revocation, 1.0)

    found = compare(one, told_by(other))

    assert (found.revocations, found.states, found.wants) == ([revocation.signed], [], [])
    assert compare(other, told_by(one)).wants == [members_kit.node_of(1)[:8] + b"\0"]


def test_entries_of_slots_that_nobody_knows_are_skipped(members_kit) -> None:
    strange = BucketDigests(1, b"\0", members_kit.node_of(1)[:8] + b"\x55" + bytes(8))

    assert compare(roster_of(members_kit), strange).wants == []


def test_states_are_packed_into_messages_that_stay_on_the_control_connection() -> None:
    states = [SignedState(bytes(3_000), bytes(64)) for _ in range(300)]

    messages, size = pack(states, (), 1 << 30)

    assert sum(len(message.states) for message in messages) == 300
    assert all(len(PEER.encode(message)) <= CONTROL_BYTES_MAX for message in messages)
    assert size > 300 * 3_000
    small, _ = pack([SignedState(b"", bytes(64))] * 300, (), 1 << 30)
    assert [len(message.states) for message in small] == [STATES_PER_MESSAGE_MAX, STATES_PER_MESSAGE_MAX, 44]


def test_packing_stops_at_the_room_there_is_but_sends_one_at_least() -> None:
    states = [SignedState(bytes(1_000), bytes(64))] * 10

    assert len(pack(states, (), 3_300)[0][0].states) == 3
    assert len(pack(states, (), 0)[0]) == 1


def test_an_allowance_is_spent_and_comes_back_with_time(members_kit) -> None:
    allowance, peer = Allowance(), members_kit.node_of(1)
    full = allowance.left(peer, 0.0)

    allowance.spend(peer, full, 0.0)

    assert allowance.left(peer, 0.0) == 0
    assert 0 < allowance.left(peer, 1.0) < full
    assert allowance.left(peer, 1_000.0) == full


def test_those_who_may_ask_for_all_again_are_forgotten(members_kit) -> None:
    allowance = Allowance()
    for index in range(100):
        allowance.spend(members_kit.node_of(index), 1_000, 0.0)
    assert len(allowance) == 100

    allowance.spend(members_kit.node_of(7), 1_000, 60.0)

    assert len(allowance) == 1


class Scene:
    """The repair of node 0, whose peers are members 1 to 3."""

    def __init__(self, kit, members: int = 40) -> None:
        self.kit = kit
        self.roster = roster_of(kit, *range(members))
        self.connected = {kit.node_of(index): None for index in (1, 2, 3)}
        self.repair = Repair(kit.node_of(0), random.Random(0), MembershipConfig(), self.roster, self.connected)
        self.peer = kit.node_of(1)


@pytest.fixture
def scene(members_kit) -> Scene:
    return Scene(members_kit)


def test_an_equal_summary_is_not_answered(scene) -> None:
    root = scene.roster.shelves.root.to_bytes(8, "big")

    assert scene.repair.summary(scene.peer, root, 0.0) == []


def test_one_hash_is_answered_by_the_hashes_of_buckets(scene) -> None:
    [sent] = scene.repair.summary(scene.peer, b"differs!", 0.0)

    assert isinstance(sent.message, Summary)
    assert len(sent.message.hashes) == 32 * 8


def test_hashes_that_nobody_asked_for_are_not_answered(scene) -> None:
    assert scene.repair.summary(scene.peer, b"differs!" * 64, 0.0) == []


def test_of_two_that_begin_at_once_one_answers_the_other(scene, members_kit) -> None:
    """Else the same differences would travel twice."""
    scene.repair.peer_up(scene.peer, 0.0)

    answered = bool(scene.repair.summary(scene.peer, b"differs!", 0.01))

    assert answered is (members_kit.node_of(0) > scene.peer)


def test_a_newcomer_is_introduced_once_to_some_and_never_to_the_world(scene) -> None:
    effects = scene.repair.summary(scene.peer, bytes(8), 0.0)

    states = [state for effect in effects for state in effect.message.states]
    own = [held.signed for held in scene.roster.get(scene.kit.node_of(0)).held()]
    most = MembershipConfig().introductions + 1
    assert states[:2] == own
    assert 2 * (most - 2) <= len(states) <= 2 * most
    assert scene.repair.summary(scene.peer, bytes(8), 0.1) == []


def test_a_peer_that_asks_for_everything_over_and_over_is_sent_no_more_than_its_allowance(scene) -> None:
    nothing = BucketDigests(1, b"\0", b"")
    sent = 0
    for _ in range(100):
        for effect in scene.repair.digests(scene.peer, nothing, 0.0):
            sent += len(PEER.encode(effect.message))

    assert 200_000 < sent < 400_000


def test_a_peer_that_asks_for_everything_over_and_over_has_us_look_for_it_no_longer_than_its_allowance(scene) -> None:
    """16 bytes make a node look at every member: at 2,000 of them that took 27 ms each time."""
    everything = BucketDigests(1, b"\0", told_by(scene.roster).digests)
    lacking = BucketDigests(1, b"\0", b"")
    for _ in range(100_000):
        scene.repair.digests(scene.peer, everything, 0.0)
        if not scene.repair.digests(scene.peer, lacking, 0.0):
            break
    else:
        pytest.fail("it was never too much")

    assert scene.repair.wanted(scene.peer, scene.kit.node_of(5)[:8] + bytes([Slot.CORE]), 0.0) == []
    assert scene.repair.summary(scene.peer, b"differs!", 0.0) == []
    assert scene.repair.digests(scene.kit.node_of(2), lacking, 0.0)
    assert scene.repair.digests(scene.peer, lacking, 10.0)


def test_hanging_up_does_not_fill_a_peers_allowance(scene) -> None:
    while scene.repair.digests(scene.peer, BucketDigests(1, b"\0", b""), 0.0):
        pass

    scene.repair.peer_down(scene.peer)
    scene.repair.peer_up(scene.peer, 0.0)

    assert not scene.repair.digests(scene.peer, BucketDigests(1, b"\0", b""), 0.0)


def test_wants_are_answered_each_once_and_not_for_the_revoked(scene) -> None:
    wanted = scene.kit.node_of(5)[:8] + bytes([Slot.CORE])
    revoked = scene.kit.node_of(6)[:8] + bytes([Slot.CORE])
    strange = b"nobody !" + bytes([9])
    scene.roster.revoke(scene.kit.revocation(scene.kit.node_of(6)), 0.0)

    [sent] = scene.repair.wanted(scene.peer, wanted * 50 + revoked + strange, 0.0)

    assert isinstance(sent.message, States)
    assert sent.message.states == [scene.roster.get(scene.kit.node_of(5)).core.signed]


def test_a_wanted_revocation_is_sent(scene) -> None:
    revocation = scene.kit.revocation(scene.kit.node_of(6))
    scene.roster.revoke(revocation, 0.0)

    [sent] = scene.repair.wanted(scene.peer, scene.kit.node_of(6)[:8] + b"\0", 0.0)

    assert sent.message.revocations == [revocation.signed]


def test_disputed_members_are_asked_themselves_at_most_sixteen_at_a_time(scene) -> None:
    gone = b"".join(
        digests.of_state(held.state, gone=True)
        for index in range(1, 40)
        for held in scene.roster.get(scene.kit.node_of(index)).held()
    )

    effects = scene.repair.digests(scene.peer, BucketDigests(1, b"\0", gone), 0.0)
    asked = [effect for effect in effects if isinstance(effect, Dial) or isinstance(effect.message, Probe)]

    assert len(asked) == 16
    assert scene.kit.node_of(0) not in [effect.node for effect in asked]
    assert not any(isinstance(effect, Send) and isinstance(effect.message, StateWants) for effect in effects)


def test_a_disputed_member_hears_of_its_death_as_soon_as_there_is_a_session(scene) -> None:
    node = scene.kit.node_of(30)
    gone = b"".join(digests.of_state(held.state, gone=True) for held in scene.roster.get(node).held())

    effects = scene.repair.digests(scene.peer, BucketDigests(1, b"\0", gone), 0.0)

    assert Dial(node, scene.roster.get(node).addresses) in effects
    assert Send(node, Probe(0, Version(1, 2))) in scene.repair.peer_up(node, 0.1)


def test_a_dial_that_fails_is_evidence_only_of_the_version_that_others_dispute(scene) -> None:
    """Of two halves that are one again single nodes doubted for a minute whom they had dialled before, in vain."""
    node = scene.kit.node_of(30)
    gone = b"".join(digests.of_state(held.state, gone=True) for held in scene.roster.get(node).held())
    for sayer in (1, 2):
        scene.repair.digests(scene.kit.node_of(sayer), BucketDigests(1, b"\0", gone), 0.0)

    assert scene.repair.dial_failed(node, 0.1)
    assert scene.roster.accept(scene.kit.verified(node, Version(1, 3), scene.kit.offer()), 0.2) is not None
    assert not scene.repair.dial_failed(node, 0.3)


def test_half_of_the_rounds_seek_somebody_who_is_held_for_dead(scene) -> None:
    dead = scene.kit.node_of(20)
    scene.roster.bury(dead, Version(1, 2), 0.0)
    scene.repair.peer_up(scene.peer, 0.0)

    sought, rounds = 0, 0
    while rounds < 200:
        effects = scene.repair.tick(scene.repair.next_at())
        rounds += 1
        sought += any(effect.node == dead for effect in effects)

    assert 70 <= sought <= 130


def test_in_an_hour_every_bucket_is_compared_without_trust_in_hashes(members_kit) -> None:
    """A liar with many nodes could choose records whose hashes hide a difference."""
    scene = Scene(members_kit, members=4)
    scene.repair.peer_up(scene.peer, 0.0)
    blind: set[int] = set()
    while scene.repair.next_at() < 3_700.0:
        for effect in scene.repair.tick(scene.repair.next_at()):
            if isinstance(effect, Send) and isinstance(effect.message, BucketDigests):
                blind.update(effect.message.buckets)

    assert blind == set(range(64))
