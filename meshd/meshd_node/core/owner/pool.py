"""Which nodes a job's units may go to, by its needs, its plan and who refused it; credit comes later."""

from collections.abc import Iterable
from dataclasses import dataclass

from meshd_node.core.owner.executors import Executor
from meshd_node.core.owner.plan import Plan, Trust


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Compared by identity: a new one is made whenever the mesh changes. `fresh` may be given a first attempt."""

    version: int
    every: list[Executor]
    trusted: list[Executor]
    fresh: frozenset[Executor]


def pool_of(plan: Plan, fitting: Iterable[Executor], version: int) -> Pool:
    """Sort out who may run a job's units. A first copy starts only if there are voters enough for a verdict."""
    every = list(fitting)
    trusted = [executor for executor in every if executor.trusted]
    return Pool(version, every, trusted, frozenset(_starters(plan, every, trusted)))


def _starters(plan: Plan, every: list[Executor], trusted: list[Executor]) -> list[Executor]:
    if plan.trust is Trust.TRUSTED_ONLY or (plan.trust is Trust.TRUSTED_FIRST and trusted):
        return trusted
    return every if voters(every) >= plan.quorum else []


def voters(executors: Iterable[Executor]) -> int:
    """How many distinct voters these nodes are."""
    return len({executor.voter for executor in executors})
