"""Who counts as living, and what changes that."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Drop, MemberChanged, MemberState
from meshd_node.core.membership.hashes import record_hash
from meshd_node.core.membership.revocations import Revocations
from meshd_node.core.membership.roster import Roster
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import REVOCATIONS_MAX
from meshd_protocol.records import Phase, Slot, Version


@pytest.fixture
def make(members_kit):
    return members_kit


def states_of(effects) -> list[MemberState]:
    return [effect.member.state for effect in effects if isinstance(effect, MemberChanged)]


def roster_of(kit, *indices: int, config: MembershipConfig | None = None) -> Roster:
    roster = Roster(kit.node_of(0), config or MembershipConfig())
    for index in indices:
        for sequence, content in enumerate((kit.core(index), kit.offer()), 1):
            assert roster.accept(kit.verified(kit.node_of(index), Version(1, sequence), content), 0.0) is not None
    return roster


def say(roster: Roster, kit, index: int, version: Version, content, now: float = 1.0):
    return roster.accept(kit.verified(kit.node_of(index), version, content), now)


def summed(roster: Roster) -> int:
    """The root as it is by definition, from all that is held."""
    total = 0
    for entry in roster:
        if entry.living:
            for held in entry.held():
                total ^= record_hash(held.signed.body)
    for bucket in range(64):
        for held in roster.revocations.bucket(64, bucket):
            total ^= record_hash(held.signed.body)
    return total


def test_an_offer_of_a_stranger_makes_no_member(make) -> None:
    roster = roster_of(make)

    assert say(roster, make, 1, Version(1, 1), make.offer()) is None
    assert list(roster.living()) == []


def test_of_two_states_with_one_version_the_first_stays(make) -> None:
    """Only a liar signs two; whoever heard the other one first keeps that one."""
    roster = roster_of(make, 1)

    assert say(roster, make, 1, Version(1, 2), make.offer(cpu_milli=9)) is None
    assert roster.get(make.node_of(1)).member().offer.cpu_milli == 1000


def test_a_refresh_is_not_urgent_and_says_nothing_new(make) -> None:
    roster = roster_of(make, 1)

    news = say(roster, make, 1, Version(1, 3), make.offer(), now=60.0)

    assert (news.urgent, news.newest, news.cleared, news.effects) == (False, True, False, [])


def test_a_version_that_comes_before_its_time_is_urgent(make) -> None:
    """Somebody made its publisher refute a suspicion that has not come here."""
    assert say(roster_of(make, 1), make, 1, Version(1, 3), make.offer(), now=5.0).urgent


@pytest.mark.parametrize(("phase", "state"), [(Phase.DRAINING, MemberState.DRAINING), (Phase.LEFT, MemberState.LEFT)])
def test_another_phase_is_urgent_and_told(make, phase, state) -> None:
    news = say(roster_of(make, 1), make, 1, Version(1, 3), make.offer(phase), now=60.0)

    assert news.urgent
    assert states_of(news.effects) == [state]


def test_a_death_covers_a_version_and_any_newer_one_revives(make) -> None:
    roster = roster_of(make, 1)
    node = make.node_of(1)

    assert states_of(roster.suspect(node, Version(1, 2), 1.0)) == [MemberState.SUSPECT]
    assert states_of(roster.bury(node, Version(1, 2), 2.0)) == [MemberState.DEAD]
    assert (list(roster.living()), list(roster.dead())) == ([], [node])
    news = say(roster, make, 1, Version(1, 3), make.offer(), now=3.0)
    assert (news.cleared, states_of(news.effects)) == (True, [MemberState.ALIVE])
    assert (list(roster.living()), list(roster.dead())) == ([node], [])


def test_a_slot_that_is_newer_than_its_own_but_not_than_the_death_revives_nobody(make) -> None:
    roster = roster_of(make, 1)
    roster.bury(make.node_of(1), Version(1, 9), 1.0)

    assert not say(roster, make, 1, Version(1, 8), make.offer(cpu_milli=5)).cleared
    assert roster.get(make.node_of(1)).state is MemberState.DEAD


def test_doubts_about_an_older_version_are_refuted_already(make) -> None:
    roster = roster_of(make, 1)

    assert roster.suspect(make.node_of(1), Version(1, 1), 1.0) == []
    assert roster.bury(make.node_of(1), Version(1, 1), 1.0) == []


def test_nobody_buries_itself(make) -> None:
    roster = roster_of(make, 0)

    assert roster.bury(make.node_of(0), Version(1, 2), 1.0) == []


def test_a_restart_makes_the_old_offer_count_for_nothing(make) -> None:
    roster = roster_of(make, 1)
    say(roster, make, 1, Version(1, 3), make.offer(Phase.LEFT))

    news = say(roster, make, 1, Version(2, 1), make.core(1))

    assert news.urgent
    assert [effect.member.offer for effect in news.effects] == [None]
    assert list(roster.living()) == [make.node_of(1)]


def test_a_revoked_member_is_dropped_and_nothing_that_it_says_counts(make) -> None:
    roster = roster_of(make, 1)
    node = make.node_of(1)

    effects = roster.revoke(make.revocation(node), 1.0)

    assert states_of(effects) == [MemberState.REVOKED]
    assert Drop(node) in effects
    assert roster.revoked(node)
    assert say(roster, make, 1, Version(5, 1), make.core(1)) is None
    assert roster.revoke(make.revocation(node), 2.0) is None


def test_a_revocation_that_came_before_its_node_keeps_it_out(make) -> None:
    roster = roster_of(make)
    roster.revoke(make.revocation(make.node_of(1)), 1.0)

    assert say(roster, make, 1, Version(1, 1), make.core(1)) is None


def test_a_revocation_of_another_operators_node_of_that_name_changes_nothing(make) -> None:
    """An issuer may revoke the nodes of its operators: naming a stranger's node must not cut it off."""
    roster = roster_of(make, 1)

    assert roster.revoke(make.revocation(make.node_of(1), operator="other"), 1.0) == []
    assert not roster.revoked(make.node_of(1))
    assert MemberState.REVOKED in states_of(roster.revoke(make.revocation(make.node_of(1)), 1.0))


def test_a_member_does_not_go_on_under_a_certificate_whose_operator_was_revoked(make) -> None:
    """A node with certificates of two operators: what ends one marks no member while it shows the other."""
    roster = roster_of(make)
    node = make.node_of(1)
    mine = make.verified(node, Version(1, 1), make.core(1))
    roster.accept(msgspec.structs.replace(mine, certified=replace(mine.certified, operator="other")), 0.0)
    roster.revoke(make.revocation(node, operator="lab"), 1.0)

    assert say(roster, make, 1, Version(1, 2), make.core(1)) is None
    assert roster.get(node).core.certified.operator == "other"


def test_an_issuer_that_revokes_a_node_over_and_over_costs_no_more_room(make) -> None:
    revocations, node = Revocations(), make.node_of(1)

    for until_ms in range(1, 1_000):
        assert revocations.add(make.revocation(node, until_ms=until_ms)) is not None

    assert revocations.get(node, "lab").revocation.until_ms == 999
    assert sum(map(len, revocations._ends.values())) < 50


def test_an_issuer_of_one_operator_can_not_bring_back_another_ones_revoked_nodes(make) -> None:
    """It revokes 10,000 nodes that never were, and for longer: those of others must not make room for them."""
    stolen = [make.revocation(make.node_of(index), operator="lab", until_ms=index) for index in range(1, 20)]
    filling = [
        make.revocation(make.node_of(index), operator="evil", until_ms=1_000_000 + index)
        for index in range(100, 101 + REVOCATIONS_MAX)
    ]
    one, other = Revocations(), Revocations()
    for record in (*stolen, *filling):
        one.add(record)
    for record in (*reversed(filling), *stolen):
        other.add(record)

    for held in (one, other):
        assert all(held.get(make.node_of(index), "lab") for index in range(1, 20))
    assert {each.signed for each in one.bucket(1, 0)} == {each.signed for each in other.bucket(1, 0)}
    assert sum(1 for _ in one.bucket(1, 0)) == REVOCATIONS_MAX


def test_a_full_set_of_revocations_keeps_those_that_end_last_in_whatever_order_they_came(make) -> None:
    records = [make.revocation(make.node_of(index), until_ms=index + 1) for index in range(REVOCATIONS_MAX + 2)]
    one, other = roster_of(make), roster_of(make)
    for record in records:
        one.revoke(record, 0.0)
    for record in reversed(records):
        other.revoke(record, 0.0)

    assert one.shelves.root == other.shelves.root
    assert one.revocations.get(make.node_of(0), "lab") is None
    assert one.revocations.get(make.node_of(REVOCATIONS_MAX + 1), "lab") is not None


def test_a_lease_ends_whoever_is_not_heard_of_but_not_a_peer(make) -> None:
    config = MembershipConfig(refresh_s=10.0, refresh_per_member_s=0.001)
    roster = roster_of(make, 1, 2, config=config)
    peers = {make.node_of(2): None}

    dead = []
    while roster.next_at() < 100.0 and not dead:
        now = roster.next_at()
        dead = roster.tick(now, peers)

    assert [effect.member.node for effect in dead] == [make.node_of(1)]
    assert 30.0 <= now <= 33.1


def test_a_process_that_stood_still_gives_everybody_another_lease(make) -> None:
    config = MembershipConfig(refresh_s=10.0, refresh_per_member_s=0.001)
    roster = roster_of(make, 1, config=config)

    assert roster.tick(3_600.0, {}) == []
    assert list(roster.living()) == [make.node_of(1)]


def test_living_members_are_never_evicted_for_strangers(make) -> None:
    roster = roster_of(make, 1, 2, config=MembershipConfig(members_max=2))

    assert say(roster, make, 3, Version(1, 1), make.core(3)) is None
    roster.bury(make.node_of(1), Version(1, 2), 1.0)
    assert say(roster, make, 3, Version(1, 1), make.core(3)) is not None
    assert roster.get(make.node_of(1)) is None


def test_tombstones_are_capped_told_for_half_their_time_and_then_forgotten(make) -> None:
    config = MembershipConfig(tombstones_max=2, tombstone_s=100.0)
    roster = roster_of(make, 1, 2, 3, config=config)
    for index in (1, 2, 3):
        roster.bury(make.node_of(index), Version(1, 2), float(index))

    assert [make.node_of(index) in roster.dead() for index in (1, 2, 3)] == [False, True, True]
    entry = roster.get(make.node_of(3))
    assert (roster.told(entry, 50.0), roster.told(entry, 60.0)) == (True, False)
    roster.tick(103.0, {})
    assert len(roster.shelves) == 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["core", "offer", "left", "suspect", "bury", "revoke"]),
            st.integers(1, 4),
            st.integers(1, 2),
            st.integers(1, 4),
        ),
        max_size=40,
    )
)
def test_indexes_and_hashes_are_what_they_would_be_if_counted_anew(members_kit, story) -> None:
    """Everything that is kept incrementally equals its definition after any story."""
    make, roster = members_kit, Roster(members_kit.node_of(0), MembershipConfig(tombstones_max=2))
    for now, (act, index, epoch, sequence) in enumerate(story):
        node, version = make.node_of(index), Version(epoch, sequence)
        match act:
            case "suspect":
                roster.suspect(node, version, now)
            case "bury":
                roster.bury(node, version, now)
            case "revoke":
                roster.revoke(make.revocation(node), now)
            case "core":
                say(roster, make, index, version, make.core(index), now)
            case _:
                phase = Phase.LEFT if act == "left" else Phase.ALIVE
                say(roster, make, index, version, make.offer(phase), now)

    assert roster.shelves.root == summed(roster)
    assert list(roster.living()) == sorted(entry.node for entry in roster if entry.living)
    assert list(roster.dead()) == sorted(entry.node for entry in roster if entry.state is MemberState.DEAD)
    counted = 0
    for value in roster.shelves.hashes(8):
        counted ^= value
    assert counted == roster.shelves.root


def test_an_entry_is_found_by_the_beginning_of_its_id(make) -> None:
    roster = roster_of(make, 1, 2)
    node = make.node_of(2)

    assert roster.shelves.find(node[:8]).node == node
    assert roster.shelves.find(NodeId(bytes(8))) is None
    assert roster.version(node, Slot.OFFER) == Version(1, 2)
