"""What an owner asks its shell to do, in order."""

from dataclasses import dataclass
from typing import TypeAlias

from meshd_node.core.owner.journal import Entry
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.messages.attempts import AttemptResult
from meshd_protocol.messages.local import Outcome


@dataclass(frozen=True, slots=True)
class Lease:
    """Give these attempts to an executor. Row i is unit `indices[i]`, attempt `attempts[i]`; all are of one tranche."""

    node: NodeId
    job: JobId
    epoch: int
    tranche: int
    duration_ms: int
    indices: list[int]
    attempts: list[int]
    functions: list[Digest]
    payloads: list[bytes]


@dataclass(frozen=True, slots=True)
class Recall:
    """Tell an executor to forget these units. `indices` empty: the whole job."""

    node: NodeId
    job: JobId
    epoch: int
    indices: list[int]


@dataclass(frozen=True, slots=True)
class Deliver:
    """Tell whoever waits for this job how these units ended. Each unit is delivered once."""

    job: JobId
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Executors gave different results for a unit. `votes`: who, what, and whether it is what was accepted.

    `accepted_digest` None: no quorum agreed, and the unit failed. `results` has one of each digest.
    """

    job: JobId
    index: int
    accepted_digest: Digest | None
    votes: list[tuple[NodeId, Digest, bool]]
    results: dict[Digest, AttemptResult]


@dataclass(frozen=True, slots=True)
class JobFinished:
    """The job was closed and its last unit has ended: `done`, `failed` (some unit did) or `cancelled`."""

    job: JobId
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Journal:
    """Write these down, before performing any effect that follows in the list."""

    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Wake:
    """Send `Tick` at this time (the clock of `now`), in place of any earlier wish."""

    at: float


Effect: TypeAlias = Lease | Recall | Deliver | Disagreement | JobFinished | Journal | Wake
