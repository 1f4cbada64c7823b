"""What an executor asks its shell to do, in order."""

from typing import TypeAlias

from msgspec import Struct

from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Tenant
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.messages.attempts import AttemptResult


class PrepareEnvironment(Struct, frozen=True):
    """Have an environment for this submitter's work, then send `EnvironmentReady` or `EnvironmentFailed`."""

    environment: bytes
    submitter: Submitter


class StartWorker(Struct, frozen=True):
    """Get a worker process for one tenant, then send `WorkerReady`; if that fails, `WorkerEnded`.

    It sees the GPUs of these UUIDs and no others, and is held to `memory_bytes`; 0 is no bound.
    """

    worker: int
    tenant: Tenant
    gpus: tuple[str, ...]
    memory_bytes: int


class EndWorker(Struct, frozen=True):
    """Kill a worker process at once; `WorkerEnded` need not follow, later news of it is ignored."""

    worker: int
    reason: str


class RunOn(Struct, frozen=True):
    """Give a worker units to run, in order. Row i is `serials[i]`, `functions[i]`, `payloads[i]`, all of one job."""

    worker: int
    job: JobId
    serials: list[int]
    functions: list[Digest]
    payloads: list[bytes]


class ReportResults(Struct, frozen=True):
    """Sign one receipt over these results (RETURNED, RAISED) and send both to the owner."""

    owner: NodeId
    job: JobId
    epoch: int
    results: list[AttemptResult]


class ReportEnds(Struct, frozen=True):
    """Tell the owner of attempts that ended without a result."""

    owner: NodeId
    job: JobId
    epoch: int
    ends: list[AttemptResult]


class GrantCredit(Struct, frozen=True):
    """Tell an owner its windows: units and payload bytes that may be unanswered at a time."""

    owner: NodeId
    units: int
    payload_bytes: int


class Drained(Struct, frozen=True):
    """Nothing runs and nothing will: once after each `DrainBegan`, unless `DrainEnded` came first."""


class Wake(Struct, frozen=True):
    """Send `Tick` at this time (the clock of `now`), in place of any earlier wish."""

    at: float


Effect: TypeAlias = (
    PrepareEnvironment | StartWorker | EndWorker | RunOn | ReportResults | ReportEnds | GrantCredit | Drained | Wake
)
