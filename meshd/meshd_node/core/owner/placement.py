"""Where a unit goes: who may take it, who should, and how many at once."""

import math
import random
from collections.abc import Iterable

from meshd_node.core.owner.executors import Executor
from meshd_node.core.owner.pace import Pace
from meshd_node.core.owner.plan import Plan, Trust
from meshd_node.core.owner.pool import Pool, voters
from meshd_node.core.owner.shelves import Exclusion
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import BATCH_UNITS_MAX


def group_of(plan: Plan, pool: Pool, exclusion: Exclusion) -> list[Executor]:
    """The nodes that may run a further attempt of units with this exclusion, busy or not."""
    allowed = [each for each in pool.every if _may_vote(each, exclusion)]
    if plan.trust is Trust.QUORUM:
        return _preferred(allowed, exclusion.avoided)
    trusted = [each for each in allowed if each.trusted]
    if plan.trust is Trust.TRUSTED_ONLY:
        return _preferred(trusted, exclusion.avoided)
    return _trusted_first(plan, trusted, allowed, exclusion)


def choose(candidates: list[Executor], pace: Pace, rng: random.Random) -> Executor:
    """The better of two random nodes (Mitzenmacher 2001): owners that see the same figures do not all pick one node.

    Nodes with a free slot come first: beside an idle node, luck must not pick a busy one. Of
    those, the ones whose speed is not what they said come last.
    """
    idle = [each for each in candidates if each.held_units < pace.slots(each)] or candidates
    idle = [each for each in idle if not each.doubt.slow] or idle
    if len(idle) == 1:
        return idle[0]
    one, other = rng.sample(idle, 2) if len(idle) > 2 else idle
    return one if pace.finish_s(one, 1) <= pace.finish_s(other, 1) else other


def share(chosen: Executor, candidates: list[Executor], waiting: int, pace: Pace) -> int:
    """How many of the waiting units a node gets: as many as let all open nodes finish together."""
    if len(candidates) == 1 or waiting >= BATCH_UNITS_MAX * len(candidates):
        return BATCH_UNITS_MAX
    work = waiting + sum(each.held_units for each in candidates)
    part = pace.rate(chosen) / sum(pace.rate(each) for each in candidates)
    return max(math.ceil(work * part) - chosen.held_units, 1)


def _may_vote(executor: Executor, exclusion: Exclusion) -> bool:
    return executor.voter not in exclusion.barred and executor.node not in exclusion.barred


def _trusted_first(
    plan: Plan, trusted: list[Executor], allowed: list[Executor], exclusion: Exclusion
) -> list[Executor]:
    """A trusted node that did not fail the unit, else strangers who can make a quorum, else a trusted node again."""
    good = [each for each in trusted if each.node not in exclusion.avoided]
    if good:
        return good
    strangers = [each for each in allowed if not each.trusted]
    unspoilt = [each for each in strangers if each.node not in exclusion.avoided]
    wanted = 1 if exclusion.barred else plan.quorum
    for group in (unspoilt, trusted, strangers):
        if group and (group is trusted or voters(group) >= wanted):
            return _preferred(group, exclusion.avoided)
    return []


def _preferred(group: Iterable[Executor], avoided: tuple[NodeId, ...]) -> list[Executor]:
    """Nodes that did not fail the unit, else all but the last one that did, else that one."""
    group = list(group)
    if not avoided:
        return group
    granting = [each for each in group if each.window_units > 0]
    return (
        [each for each in granting if each.node not in avoided]
        or [each for each in granting if each.node != avoided[-1]]
        or group
    )
