"""The rings: the same neighbours for everybody who knows the same members, however they came to know them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd_node.core.membership.rings import Rings, places
from meshd_protocol.ids import NodeId

RINGS = 10


def ids(count: int, seed: int = 0) -> list[NodeId]:
    rng = random.Random(seed)
    return [NodeId(rng.randbytes(20)) for _ in range(count)]


def built(node: NodeId, members: list[NodeId]) -> Rings:
    rings = Rings(node, RINGS)
    for member in members:
        rings.add(member)
    return rings


def predecessors(node: NodeId, members: list[NodeId], reach: int) -> set[NodeId]:
    """By the definition: the nearest on each ring backwards."""
    found: set[NodeId] = set()
    for ring in range(RINGS):
        order = sorted(members, key=lambda member: places(member, RINGS)[ring])
        index = order.index(node)
        found.update(order[(index - distance) % len(order)] for distance in range(1, reach + 1))
    return found - {node}


@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_everybody_observes_everybody_in_a_mesh_no_larger_than_the_rings(count: int) -> None:
    members = ids(count)
    rings = built(members[0], members)

    for member in members:
        assert set(rings.observers(member)) == set(rings.subjects(member)) == set(members) - {member}


@pytest.mark.parametrize("count", [12, 40, 300])
def test_observers_are_the_predecessors_on_each_ring_and_subjects_the_successors(count: int) -> None:
    members = ids(count)
    rings = built(members[0], members)

    for member in members[:20]:
        assert set(rings.observers(member)) == predecessors(member, members, 1)
        for subject in rings.subjects(member):
            assert member in rings.observers(subject)


def test_observers_are_accepted_of_a_view_that_knows_one_member_more_or_less() -> None:
    """Rings disagree while membership changes: else the claims about who crashes during a join would be lost."""
    members = ids(60)
    theirs, ours = built(members[0], members), built(members[0], members[:-1])

    for accused in members[:-1]:
        assert all(ours.may_accuse(accuser, accused) for accuser in theirs.observers(accused) if accuser in ours)
        assert all(theirs.may_accuse(accuser, accused) for accuser in ours.observers(accused))
        accusers = {member for member in members if theirs.may_accuse(member, accused)}
        assert accusers == predecessors(accused, members, 2)


def test_strangers_accuse_nobody_and_are_accused_by_nobody() -> None:
    members = ids(30)
    rings = built(members[0], members[:-1])

    assert not any(rings.may_accuse(members[-1], accused) for accused in members)
    assert not any(rings.may_accuse(accuser, members[-1]) for accuser in members)


def test_who_shares_sorted_rings_does_not_change_anothers() -> None:
    members = ids(50)
    one, other = built(members[0], members), built(members[1], members)

    one.discard(members[7])

    assert members[7] not in one
    assert members[7] in other
    assert len(other) == 50
    assert set(other.observers(members[8])) == predecessors(members[8], members, 1)


def test_this_node_itself_stays_on_its_rings() -> None:
    members = ids(3)
    rings = built(members[0], members)

    rings.discard(members[0])

    assert members[0] in rings


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 29)), max_size=80), st.integers(1, 8))
def test_rings_depend_on_who_is_there_not_on_the_way_they_came(steps: list[tuple[bool, int]], every: int) -> None:
    """And `moved` never misses a change of this node's own neighbours."""
    members = ids(30)
    rings, present = Rings(members[0], RINGS), {members[0]}
    rings.moved()
    before = (rings.subjects(members[0]), rings.observers(members[0]))
    for number, (join, index) in enumerate(steps):
        if join:
            rings.add(members[index])
            present.add(members[index])
        else:
            rings.discard(members[index])
            present -= {members[index]} - {members[0]}
        if number % every == 0:
            moved = rings.moved()
            after = (rings.subjects(members[0]), rings.observers(members[0]))
            assert moved or after == before
            before = after
    fresh = built(members[0], sorted(present))
    assert len(rings) == len(present)
    for member in present:
        assert rings.observers(member) == fresh.observers(member)
        assert rings.subjects(member) == fresh.subjects(member)
