"""Invariants 1 and 2: what is accepted was said by enough, and colluders below the quorum are never believed."""

from collections.abc import Callable
from typing import TypeAlias

from meshd_node.core.owner import effects
from meshd_node.core.owner.journal import VerdictEntry
from meshd_protocol.ids import Digest, JobId, NodeId, result_digest
from meshd_protocol.messages.attempts import AttemptStatus, UnitStatus
from meshd_protocol.messages.local import Outcome
from meshd_sim.jobs.books import JobBook, OwnerBook, Vote
from meshd_sim.jobs.rules.quorums import is_trusted_only, quorum_of, trusts_single
from meshd_sim.jobs.rules.require import require
from meshd_sim.jobs.tasks import Kind, right_result

Honesty: TypeAlias = Callable[[NodeId], bool]


class Verdicts:
    """`honest` tells of a node whether it says only what its workers found."""

    def __init__(self, honest: Honesty) -> None:
        self._honest = honest

    def check(self, effect: effects.Effect, book: OwnerBook, now: float) -> None:
        """Look at everything that is delivered as a result."""
        if not isinstance(effect, effects.Deliver):
            return
        job = book.jobs[effect.job]
        for outcome in effect.outcomes:
            if outcome.status in {UnitStatus.RETURNED, UnitStatus.RAISED}:
                digest = result_digest(outcome.status, outcome.value)
                require(digest == _written(book, effect.job, outcome.index), 3, "another digest than was written down")
                votes = [vote for vote in job.units[outcome.index].votes if vote.digest == digest]
                _is_believable(job, outcome, votes, book)
                self._is_right(job, outcome, votes)

    def _is_right(self, job: JobBook, outcome: Outcome, votes: list[Vote]) -> None:
        task = job.units[outcome.index].task
        if task.kind is Kind.BABBLES:
            return
        right = (AttemptStatus(int(outcome.status)), outcome.value) == right_result(task)
        liars = {vote.voter for vote in votes if not self._honest(vote.node)}
        quorum = quorum_of(job.plan.policy)
        enough = len(liars) >= quorum
        require(right or enough, 2, f"unit {outcome.index}: {len(liars)} liars were believed, the quorum is {quorum}")


def _is_believable(job: JobBook, outcome: Outcome, votes: list[Vote], book: OwnerBook) -> None:
    policy = job.plan.policy
    revoked = [vote for vote in votes if vote.node in book.revoked]
    require(len(votes) > len(revoked), 1, f"unit {outcome.index} was accepted without one valid result")
    voters = {vote.voter for vote in votes if vote.node not in book.revoked}
    trusted = trusts_single(policy) and any(vote.trusted for vote in votes)
    agreed = not is_trusted_only(policy) and len(voters) >= quorum_of(policy)
    require(trusted or agreed, 1, f"unit {outcome.index} was accepted on the word of {len(voters)}")


def _written(book: OwnerBook, job: JobId, index: int) -> Digest | None:
    for entry in book.journal:
        if isinstance(entry, VerdictEntry) and entry.job == job and index in entry.indices:
            return entry.digests[entry.indices.index(index)]
    return None
