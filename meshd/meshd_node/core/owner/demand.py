"""What units that wait could use beyond the nodes that there are sessions with. Looked at now and then, by a timer."""

import math
from collections.abc import Iterable

from msgspec import Struct

from meshd_node.core.owner.dispatch import Dispatch
from meshd_node.core.owner.job import Job
from meshd_node.core.owner.plan import Trust
from meshd_node.core.owner.pool import Pool
from meshd_node.core.owner.terms import Terms

# A slot is worth a connection (two signatures and some round trips) if the backlog keeps it busy for this long.
WORTH_S = 0.25
# Where no verdict is possible with the nodes there are, so many slots are added at a time: who they are decides.
MORE_VOTERS = 4


class Demand(Struct, frozen=True):
    """So many units more at a time, on nodes that do for `terms`.

    `trusted`: no other node will do; otherwise a trusted one is better. `voters`: nodes of operators with no session
    are better than others.
    """

    terms: Terms
    slots: int
    trusted: bool
    voters: bool


def demands_of(jobs: Iterable[Job], dispatch: Dispatch, now: float) -> list[Demand]:
    """What the jobs lack, one demand for each that lacks anything."""
    waiting = [job for job in jobs if job.has_work() and not job.paused]
    return [demand for job in waiting if (demand := _demand(job, dispatch, now)).slots > 0]


def _demand(job: Job, dispatch: Dispatch, now: float) -> Demand:
    pool = dispatch.pool(job, now)
    stuck = _stuck(job, dispatch, pool, now)
    trusted = job.plan.trust is Trust.TRUSTED_ONLY or (
        job.plan.trust is Trust.TRUSTED_FIRST and bool(pool.trusted) and not stuck
    )
    at_hand = sum(job.pace.slots(each) for each in pool.fresh if each.window_units > 0)
    missing = _useful(job, job.waiting() * (1 if trusted else job.plan.copies), at_hand) - at_hand
    return Demand(job.terms, max(missing, MORE_VOTERS if stuck else 0), trusted=trusted, voters=stuck)


def _useful(job: Job, copies: int, at_hand: int) -> int:
    """How many slots so many copies that wait would keep busy for a while."""
    slots = math.ceil(copies * job.pace.typical_s() / WORTH_S)
    if job.done + job.failed == 0:
        # Nobody knows yet how long they are, and the longer they are the later it shows: twice as many at each look.
        slots = max(slots, 2 * at_hand)
    return min(copies, slots)


def _stuck(job: Job, dispatch: Dispatch, pool: Pool, now: float) -> bool:
    """Whether something waits that none of the nodes with a session may run, busy or not."""
    if job.head() is not None and not pool.fresh:
        return True
    return any(not dispatch.group(job, shelf, now) for shelf in job.shelves.waiting())
