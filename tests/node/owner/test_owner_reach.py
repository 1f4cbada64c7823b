"""Which members an owner asks for a session while units wait: as many as help, and no others."""

import random
from collections.abc import Iterable

import pytest

from meshd_node.core.owner.config import OwnerConfig
from meshd_node.core.owner.demand import WORTH_S, Demand
from meshd_node.core.owner.events import DeliveryPaused, ExecutorView
from meshd_node.core.owner.reach import Reach
from meshd_node.core.owner.terms import Terms
from meshd_protocol.ids import NodeId
from meshd_protocol.records import CageLevel, Needs, Policy


def _reach(links_max: int = 256) -> Reach:
    return Reach(random.Random(1), OwnerConfig(links_max=links_max))


def _by_node(views: Iterable[ExecutorView]) -> dict[NodeId, ExecutorView]:
    return {view.node: view for view in views}


def _demand(slots: int = 4, *, trusted: bool = False, voters: bool = False, gpus: int = 0) -> Demand:
    return Demand(Terms(Needs(gpus=gpus), CageLevel.NONE), slots, trusted=trusted, voters=voters)


def test_an_owner_without_work_wants_nobody(rig) -> None:
    rig.node("a")
    rig.job()

    assert not rig.owner.busy()
    assert rig.owner.demands(0.0) == []


def test_what_runs_already_wants_nobody_else(rig) -> None:
    rig.node("a", slots=4)
    rig.submit(rig.job(), 4)

    assert rig.owner.busy()
    assert rig.owner.demands(0.0) == []


def test_a_backlog_of_short_units_wants_only_slots_that_it_keeps_busy(rig) -> None:
    """100,000 units of a microsecond are gone before a connection is made."""
    rig.node("a", slots=2, window=256)
    job = rig.job()
    for _ in range(20):
        rig.submit(job, 250)
    rig.now = 250e-6
    rig.answer(rig.leases[0])

    assert rig.owner.demands(rig.now) == []


def test_a_backlog_of_long_units_wants_a_slot_for_each(rig) -> None:
    rig.node("a", slots=2, window=2)
    job = rig.job()
    rig.submit(job, 100)
    rig.now = 10 * WORTH_S
    rig.answer(rig.leases[0])

    (demand,) = rig.owner.demands(rig.now)
    assert demand.slots == 100 - 4 - 2, "two are answered, two run, and the two slots there are count"
    assert demand.trusted, "a trusted node's word is enough, and one is there"


def test_until_a_first_answer_shows_their_length_slots_are_doubled(rig) -> None:
    """Units of an hour would otherwise be taken for ones of 10 ms until the first hour is over."""
    rig.node("a", slots=8, window=8)
    rig.submit(rig.job(), 100)

    (demand,) = rig.owner.demands(60.0)
    assert demand.slots == 8


def test_a_job_that_lacks_voters_wants_other_operators(rig) -> None:
    rig.node("a", operator="one", trusted=False)
    rig.submit(rig.job(policy=Policy(replicas=2, quorum=2)), 1)

    (demand,) = rig.owner.demands(0.0)
    assert demand.voters
    assert not demand.trusted
    assert demand.slots > 0


def test_a_program_that_does_not_read_wants_nobody(rig) -> None:
    rig.node("a", slots=1, window=1)
    job = rig.job()
    rig.submit(job, 100)
    rig.send(DeliveryPaused(job))

    assert rig.owner.demands(0.0) == []


def test_members_are_asked_until_their_slots_are_enough(rig) -> None:
    views = _by_node(rig.view(f"n{index}", slots=2) for index in range(10))

    assert len(_reach().choose([_demand(5)], views, [], 0.0)) == 3


def test_a_member_is_asked_once_and_its_slots_count_while_it_is_dialled(rig) -> None:
    views = _by_node(rig.view(f"n{index}", slots=2) for index in range(10))
    reach = _reach()
    first = reach.choose([_demand(4)], views, [], 0.0)

    assert reach.choose([_demand(4)], views, [], 0.5) == []
    assert not set(reach.choose([_demand(8)], views, first[:1], 1.0)) & set(first)


def test_who_could_not_be_reached_rests_and_is_asked_again(rig) -> None:
    views = _by_node([rig.view("a")])
    reach = _reach()
    assert reach.choose([_demand()], views, [], 0.0)
    reach.failed(rig.node_id("a"), 1.0)

    assert not reach.holds(rig.node_id("a"))
    assert reach.choose([_demand()], views, [], 2.0) == []
    assert reach.choose([_demand()], views, [], 32.0) == [rig.node_id("a")]


def test_no_more_sessions_are_asked_for_than_the_bound_however_large_the_backlog(rig) -> None:
    views = _by_node(rig.view(f"n{index}") for index in range(50))
    reach = _reach(links_max=7)

    assert len(reach.choose([_demand(1_000)], views, [], 0.0)) == 7
    assert reach.choose([_demand(1_000)], views, [], 1.0) == []
    reach.rest()
    assert reach.choose([_demand(2)], views, [], 2.0)


@pytest.mark.parametrize("demand", [_demand(gpus=1), _demand(trusted=True)])
def test_who_can_not_help_is_not_asked(rig, demand: Demand) -> None:
    views = _by_node([rig.view("stranger", trusted=False), rig.view("linked", gpus=1)])

    assert _reach().choose([demand], views, [rig.node_id("linked")], 0.0) == []


def test_new_operators_are_asked_before_those_that_have_a_vote(rig) -> None:
    linked = rig.view("linked", operator="one", trusted=False)
    others = [rig.view(f"n{index}", operator="one", trusted=False) for index in range(20)]
    new = rig.view("new", operator="two", trusted=False)
    views = _by_node([linked, *others, new])

    assert _reach().choose([_demand(1, voters=True)], views, [linked.node], 0.0) == [new.node]


def test_trusted_members_are_asked_before_strangers(rig) -> None:
    views = _by_node([*(rig.view(f"s{index}", trusted=False) for index in range(20)), rig.view("own")])

    assert _reach().choose([_demand(1)], views, [], 0.0) == [rig.node_id("own")]
