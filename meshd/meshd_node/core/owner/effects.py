"""What an owner asks its shell to do, in order."""

from typing import TypeAlias

from msgspec import Struct

from meshd_node.core.owner.journal import Entry
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.messages.attempts import AttemptResult
from meshd_protocol.messages.local import Outcome


class Lease(Struct, frozen=True):
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


class Recall(Struct, frozen=True):
    """Tell an executor to forget these units. `indices` empty: the whole job."""

    node: NodeId
    job: JobId
    epoch: int
    indices: list[int]


class Deliver(Struct, frozen=True):
    """Tell whoever waits for this job how these units ended. Each unit is delivered once."""

    job: JobId
    outcomes: list[Outcome]


class Disagreement(Struct, frozen=True):
    """Executors gave different results for a unit. `votes`: who, what, and whether it is what was accepted.

    `accepted_digest` None: no quorum agreed, and the unit failed. `results` has one of each digest.
    """

    job: JobId
    index: int
    accepted_digest: Digest | None
    votes: list[tuple[NodeId, Digest, bool]]
    results: dict[Digest, AttemptResult]


class JobFinished(Struct, frozen=True):
    """The job was closed and its last unit has ended: `done`, `failed` (some unit did) or `cancelled`."""

    job: JobId
    state: str
    reason: str


class Journal(Struct, frozen=True):
    """Write these down, before performing any effect that follows in the list."""

    entries: list[Entry]


class Wake(Struct, frozen=True):
    """Send `Tick` at this time (the clock of `now`), in place of any earlier wish."""

    at: float


Effect: TypeAlias = Lease | Recall | Deliver | Disagreement | JobFinished | Journal | Wake
