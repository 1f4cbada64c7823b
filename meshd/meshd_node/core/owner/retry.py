"""Puts a unit where its next attempt will be found, or takes it away if it needs none now."""

from meshd_node.core.owner.job import Job
from meshd_node.core.owner.shelves import Exclusion
from meshd_node.core.owner.unit import Trial, Unit, Voter


def await_more(job: Job, unit: Unit) -> None:
    """Shelve a unit that needs one more attempt; call after anything in its trial changed."""
    trial = unit.open_trial()
    if job.plan.missing(trial) > 0:
        job.shelves.put(unit, exclusion_of(trial))
    else:
        job.shelves.take(unit)


def await_alike(job: Job, units: list[Unit]) -> None:
    """Shelve units whose trials are all alike: their first copies were just given to one node."""
    trial = units[0].open_trial()
    if job.plan.missing(trial) > 0:
        exclusion = exclusion_of(trial)
        for unit in units:
            job.shelves.put(unit, exclusion)


def exclusion_of(trial: Trial) -> Exclusion:
    """Nobody runs or votes twice, as a node or as a voter; nodes that failed the unit come last."""
    barred: set[Voter] = set()
    for vote in trial.votes:
        barred |= {vote.node, vote.voter}
    for grant in trial.running.values():
        barred |= {grant.executor.node, grant.executor.voter}
    # A dict keeps order and drops doubles: a node that failed twice counts at its last failure.
    avoided = reversed(dict.fromkeys(failure.node for failure in reversed(trial.failures)))
    return Exclusion(frozenset(barred), tuple(avoided))
