"""Invariant 14, and what a user is told: everything once, in order, and written down before."""

from meshd_node.core.owner import effects
from meshd_node.core.owner.journal import FailureEntry, FinishedEntry, LeaseEntry, VerdictEntry
from meshd_protocol.ids import JobId
from meshd_protocol.messages.attempts import UnitStatus
from meshd_protocol.messages.local import Outcome
from meshd_sim.jobs.books import JobBook, OwnerBook
from meshd_sim.jobs.rules.require import require


def check_promise(effect: effects.Effect, book: OwnerBook, now: float) -> None:
    """Each promise has its record in the journal of its step, and is made once."""
    match effect:
        case effects.Lease():
            _lease_is_written(effect, book)
        case effects.Deliver(job, outcomes):
            for outcome in outcomes:
                _outcome_is_written(job, outcome, book)
                _outcome_is_new(book.jobs[job], outcome)
        case effects.JobFinished(job, state):
            _finish_is_due(book.jobs[job])
            written = any(isinstance(entry, FinishedEntry) and entry.job == job for entry in book.journal)
            require(written, 14, f"a job was told to be {state}, and that was not written down")
        case _:
            pass


def _lease_is_written(lease: effects.Lease, book: OwnerBook) -> None:
    attempts = list(zip(lease.indices, lease.attempts, strict=True))
    written = any(
        (entry.job, entry.epoch, entry.node, list(zip(entry.indices, entry.attempts, strict=True)))
        == (lease.job, lease.epoch, lease.node, attempts)
        for entry in book.journal
        if isinstance(entry, LeaseEntry)
    )
    require(written, 14, "a lease was given and not written down before")


def _outcome_is_written(job: JobId, outcome: Outcome, book: OwnerBook) -> None:
    if outcome.status in {UnitStatus.RETURNED, UnitStatus.RAISED}:
        written = any(isinstance(entry, VerdictEntry) and _names(entry, job, outcome) for entry in book.journal)
    else:
        cancelled = outcome.status is UnitStatus.CANCELLED
        written = any(
            isinstance(entry, FailureEntry) and entry.cancelled is cancelled and _names(entry, job, outcome)
            for entry in book.journal
        )
    require(written, 14, f"unit {outcome.index} was told to have {outcome.status.name}, and that was not written down")


def _names(entry: VerdictEntry | FailureEntry, job: JobId, outcome: Outcome) -> bool:
    return entry.job == job and outcome.index in entry.indices


def _outcome_is_new(job: JobBook, outcome: Outcome) -> None:
    require(outcome.index < len(job.units), 3, "an outcome of a unit that was never submitted")
    require(job.units[outcome.index].outcome is None, 3, f"unit {outcome.index} was delivered twice")
    require(not job.state, 3, "an outcome after its job had ended")


def _finish_is_due(job: JobBook) -> None:
    require(not job.state, 3, "a job finished twice")
    require(job.closed, 3, "a job finished before it was closed")
    require(all(unit.outcome for unit in job.units), 3, "a job finished before its last unit")
