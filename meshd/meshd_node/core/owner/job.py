"""One job as its owner knows it: counts, the units that have not ended, and what was learned on the way."""

from collections import deque
from typing import NamedTuple

from meshd_node.core.owner.backoff import Backoff
from meshd_node.core.owner.config import OwnerConfig
from meshd_node.core.owner.events import JobAccepted
from meshd_node.core.owner.pace import Pace
from meshd_node.core.owner.plan import plan_of
from meshd_node.core.owner.pool import Pool
from meshd_node.core.owner.shelves import Shelves
from meshd_node.core.owner.terms import terms_of
from meshd_node.core.owner.unit import Failure, Unit, Vote
from meshd_protocol.ids import Digest, NodeId
from meshd_protocol.messages.local import Outcome
from meshd_protocol.records import Runtime

# The epoch of a job that no other node has owned before.
FIRST_EPOCH = 1


class Believed(NamedTuple):
    """Units whose single copy was accepted, and from whom."""

    node: NodeId
    trusted: bool
    indices: list[int]


class Tried(NamedTuple):
    """One unit that took more than one attempt: its votes and failures. `digest` None: no result was accepted."""

    unit: int
    digest: Digest | None
    votes: list[Vote]
    failures: list[Failure]


class Job:
    """Units leave `units` when they end; what stays are counts, the last verdicts and, if detached, outcomes."""

    __slots__ = (
        "backoff", "believed", "cancelled", "closed", "copies", "created", "detached", "disagreed", "done", "ended",
        "epoch", "failed", "first_failure", "fresh", "id", "name", "only", "outcomes", "outvoted", "pace", "paused",
        "plan", "policy", "pool", "queued", "running", "shares", "shelves", "state", "submitted", "submitter",
        "terms", "tried", "units", "unwanted", "withered",
    )  # fmt: skip

    def __init__(self, accepted: JobAccepted, config: OwnerConfig, now: float) -> None:
        self.id = accepted.job
        self.name = accepted.name
        self.submitter = accepted.submitter
        self.policy = accepted.policy
        self.detached = accepted.detached
        self.only = accepted.only
        self.plan = plan_of(accepted.policy, config.copies_extra)
        self.terms = terms_of(accepted.needs, self.plan)
        self.epoch = FIRST_EPOCH
        self.created = now
        self.ended: float | None = None
        self.state = "running"
        self.closed = False
        self.paused = False
        self.unwanted = False  # the whole job was cancelled
        self.first_failure = ""

        self.units: dict[int, Unit] = {}
        self.fresh: deque[Unit] = deque()  # never given to anybody
        self.withered = 0  # units in `fresh` that ended there
        self.shelves = Shelves()
        self.queued = False  # in the rota

        self.submitted = 0
        self.running = 0  # units with an attempt under way
        self.done = 0
        self.failed = 0
        self.cancelled = 0
        self.copies = 0
        self.disagreed = 0  # units whose copies differed

        self.pool: Pool | None = None
        self.pace = Pace(accepted.needs)
        self.backoff = Backoff(config)
        self.shares: dict[NodeId, int] = {}
        self.outvoted: dict[NodeId, int] = {}
        self.believed: deque[Believed] = deque(maxlen=config.verdict_batches_kept)
        self.tried: deque[Tried] = deque(maxlen=config.verdict_units_kept)
        self.outcomes: list[Outcome] = []

    def waiting(self) -> int:
        """Units that have not ended and have no attempt under way."""
        return len(self.units) - self.running

    def ends_by_time_out(self, trusted: bool) -> bool:
        """Whether a time-out ends a unit: a command's does, on the word of a node that is believed alone."""
        return self.terms.needs.runtime is Runtime.COMMAND and self.plan.believes_alone(trusted)

    def has_work(self) -> bool:
        """Whether some unit waits for an attempt."""
        return bool(self.fresh or self.shelves.count)

    def head(self) -> Unit | None:
        """The first unit that nobody was given yet."""
        while self.fresh:
            if not self.fresh[0].ended:
                return self.fresh[0]
            self.fresh.popleft()
            self.withered -= 1
        return None

    def wither(self) -> None:
        """A unit in `fresh` has ended. Sweep once half are dead: an owner without executors must not hoard them."""
        self.withered += 1
        if self.withered > 1_024 and 2 * self.withered > len(self.fresh):
            self.fresh = deque(unit for unit in self.fresh if not unit.ended)
            self.withered = 0
