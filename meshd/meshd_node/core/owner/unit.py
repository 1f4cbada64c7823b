"""Rows of the owner's tables: a unit, the lease it runs under and, where one attempt was not enough, its trial."""

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from meshd_protocol.ids import Digest, NodeId
from meshd_protocol.messages.attempts import AttemptResult

if TYPE_CHECKING:
    from meshd_node.core.owner.executors import Executor
    from meshd_node.core.owner.shelves import Shelf

# Whose word it is: a trusted node speaks for itself (its id), all other nodes of one operator speak as one (its name).
Voter: TypeAlias = NodeId | str


class Grant:
    """One lease, shared by all its units: who runs them, as which attempt, and until when without a look at it."""

    __slots__ = ("attempt", "deadline", "duration_s", "executor", "lost_at")

    def __init__(self, executor: "Executor", attempt: int, now: float, duration_s: float, patience_s: float) -> None:
        self.executor = executor
        self.attempt = attempt
        self.duration_s = duration_s
        self.deadline = now + min(duration_s, patience_s)
        self.lost_at = now + patience_s


class Vote(NamedTuple):
    """What one executor says the result is. `voter` is fixed when the vote arrives."""

    node: NodeId
    voter: Voter
    trusted: bool
    digest: Digest


class Failure(NamedTuple):
    """An attempt that is charged to its unit."""

    node: NodeId
    reason: str


class Trial:
    """All attempts of a unit that one attempt did not settle."""

    __slots__ = ("agreed", "attempts", "camps", "failures", "leader", "results", "running", "shelf", "votes")

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts  # so far; the next one's number
        self.running: dict[NodeId, Grant] = {}
        self.votes: list[Vote] = []
        self.camps: dict[Digest, set[Voter]] = {}
        self.leader: Digest | None = None  # the digest most distinct voters agree on, the first to get there
        self.agreed = 0  # how many those are
        self.results: dict[Digest, AttemptResult] = {}  # one of each digest, however many votes it has
        self.failures: list[Failure] = []
        self.shelf: Shelf | None = None  # where it waits for its next attempt

    def vote(self, vote: Vote, result: AttemptResult) -> None:
        """Count a result. A voter's second voice for one digest adds nothing."""
        self.votes.append(vote)
        self.results.setdefault(vote.digest, result)
        camp = self.camps.setdefault(vote.digest, set())
        camp.add(vote.voter)
        if len(camp) > self.agreed:
            self.leader, self.agreed = vote.digest, len(camp)

    def disown(self, node: NodeId) -> bool:
        """Count again without a node's votes; return whether it had any."""
        kept, results = [vote for vote in self.votes if vote.node != node], self.results
        if len(kept) == len(self.votes):
            return False
        self.votes, self.camps, self.results, self.leader, self.agreed = [], {}, {}, None, 0
        for vote in kept:
            self.vote(vote, results[vote.digest])
        return True


class Unit:
    """One unit that has not ended. `grant` is its one running attempt, as long as it has no `trial`."""

    __slots__ = ("ended", "function", "grant", "index", "payload", "tranche", "trial")

    def __init__(self, index: int, tranche: int, function: Digest, payload: bytes) -> None:
        self.index = index
        self.tranche = tranche
        self.function = function
        self.payload = payload
        self.grant: Grant | None = None
        self.trial: Trial | None = None
        self.ended = False

    def open_trial(self) -> Trial:
        """The unit's trial; a single running attempt moves into a new one."""
        if self.trial is None:
            self.trial = Trial(attempts=0 if self.grant is None else 1)
            if self.grant is not None:
                self.trial.running[self.grant.executor.node] = self.grant
                self.grant = None
        return self.trial

    def grants(self) -> list[Grant]:
        """Every attempt that runs."""
        if self.trial is not None:
            return list(self.trial.running.values())
        return [] if self.grant is None else [self.grant]
