"""Invariants 4 and 5: every job ends, and no unit fails without its reasons."""

from meshd_node.core.owner import effects
from meshd_node.core.owner.config import OwnerConfig
from meshd_protocol.messages.attempts import UnitStatus
from meshd_sim.jobs.books import JobBook, OwnerBook, UnitBook
from meshd_sim.jobs.rules.quorums import is_default, is_trusted_only, quorum_of, votes_max
from meshd_sim.jobs.rules.require import require

# With two that differ, one may lie; three that all differ show a function that gives another result each time.
_BABEL = 3
_ATTEMPTS_MAX = OwnerConfig().attempts_max


def check_failures(effect: effects.Effect, book: OwnerBook, now: float) -> None:
    """A unit that failed was tried as often as its policy says, or could not agree."""
    if not isinstance(effect, effects.Deliver):
        return
    job = book.jobs[effect.job]
    for outcome in effect.outcomes:
        if outcome.status is UnitStatus.FAILED:
            unit = job.units[outcome.index]
            tale = f"{len(unit.votes)} votes, {len(unit.charges)} failures, {unit.attempts} attempts"
            require(_may_fail(job, unit), 5, f"unit {outcome.index} of job {job.plan.number} was given up: {tale}")


def _may_fail(job: JobBook, unit: UnitBook) -> bool:
    policy = job.plan.policy
    if not policy.pure and (unit.charges or unit.votes):
        return True
    if len(unit.charges) >= policy.failures_max or unit.attempts >= _ATTEMPTS_MAX:
        return True
    hopeless = unit.agreed() + votes_max(policy) - len(unit.votes) < quorum_of(policy)
    return hopeless or _is_babel(unit)


def _is_babel(unit: UnitBook) -> bool:
    return len(unit.votes) >= _BABEL and len(unit.camps()) == len(unit.votes)


def check_all_ended(book: OwnerBook) -> None:
    """Long after the last fault every job has ended, but for units that wait for nodes that do not exist."""
    for job in book.open_jobs():
        starved = [unit for unit in job.units if unit.outcome is None and unit.votes and _is_starved(book, job, unit)]
        require(job.closed, 4, f"job {job.plan.number} was never closed")
        for unit in job.units:
            where = f"unit {unit.task.index} of job {job.plan.number}"
            # Units that were begun and are starved fill the memory for such units: no further one is begun.
            blocked = bool(starved) and not unit.attempts
            ended = unit.outcome is not None
            require(ended or blocked or _is_starved(book, job, unit), 4, f"{where} never ended")
        waiting = any(unit.outcome is None for unit in job.units)
        require(waiting, 4, f"job {job.plan.number} never ended, though all its units did")


def _is_starved(book: OwnerBook, job: JobBook, unit: UnitBook) -> bool:
    """Whether fewer voters are left to ask than it takes, as the user is told who asks why."""
    policy = job.plan.policy
    if unit.out:
        # What must not run twice is waited for as long as its node has a session, though it may never answer.
        return not policy.pure
    granting = {node for node, window in book.windows.items() if window.units > 0}
    willing = [view for view in book.views.values() if view.accepts and view.node in granting]
    if any(view.trusted for view in willing) and (is_default(policy) or is_trusted_only(policy)):
        return False
    if is_trusted_only(policy):
        return True
    voted = {vote.voter for vote in unit.votes}
    left = {view.node if view.trusted else view.operator for view in willing} - voted
    return len(left) < quorum_of(policy) - unit.agreed() and not (_is_babel(unit) and not left)
