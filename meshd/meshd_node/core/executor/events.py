"""What can happen to an executor."""

from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct

from meshd_node.core.tenant import Tenant
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.messages.worker import WorkResult
from meshd_protocol.records import Gpu, Runtime


class LeasedWork(NamedTuple):
    """One attempt of a unit that this node may run."""

    unit: int
    attempt: int
    function: Digest
    payload: bytes


class LeaseArrived(Struct, frozen=True):
    """Verified work: the tranche's signature covers each unit, and the charter lets this submitter in."""

    owner: NodeId
    job: JobId
    epoch: int
    tenant: Tenant
    timeout_ms: int
    units: list[LeasedWork]


# Scratch space lies in memory where a cage has a file system of its own, so it is not for the asking.
SCRATCH_BYTES: Final = 1 << 30


class Lent(Struct, frozen=True):
    """What this node lends from now on: to start with, and whenever it changes.

    So many workers may have the same GPU at a time. A worker whose work asks for no memory has an even share; with
    `bound_unasked` it is held to that. No cage has more scratch space than `scratch_bytes`. What does not fit any more
    is handed back, workers end when they are idle.
    """

    slots: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    gpu_workers: int = 1
    bound_unasked: bool = True
    scratch_bytes: int = SCRATCH_BYTES


class OwnerUp(Struct, frozen=True):
    """A session with a node that may submit work has begun (also with this node itself)."""

    owner: NodeId


class OwnerLost(Struct, frozen=True):
    """The session ended: nobody waits for that owner's units here any more."""

    owner: NodeId


class OwnerBound(Struct, frozen=True):
    """An owner may have work of these runtimes run here from now on; at first it may have all.

    Of others what waits is handed back at once, what runs when it has not ended by `until`. Without any it gets no
    credit. Again: this one counts.
    """

    owner: NodeId
    runtimes: tuple[Runtime, ...]
    until: float
    reason: str


class Recalled(Struct, frozen=True):
    """An owner does not want these units any more. `indices` empty: nothing of the job."""

    owner: NodeId
    job: JobId
    epoch: int
    indices: list[int]


class EnvironmentReady(Struct, frozen=True):
    """Work that needs a Python environment may start, until `EnvironmentGone`."""

    environment: bytes


class EnvironmentFailed(Struct, frozen=True):
    """An environment that was asked for can not be had here, for now or for ever. `reason` is for owners."""

    environment: bytes
    reason: str


class EnvironmentGone(Struct, frozen=True):
    """An environment that nothing uses (`Executor.uses`) may be removed: it is asked for again when it is needed."""

    environment: bytes


class WorkerReady(Struct, frozen=True):
    """A worker that `StartWorker` asked for can take units."""

    worker: int


class WorkerRan(Struct, frozen=True):
    """A worker finished units or, with HANDED_BACK, gives units back that it did not start."""

    worker: int
    results: list[WorkResult]


class WorkerEnded(Struct, frozen=True):
    """A worker process is gone. `running` is the serial of the unit that it was in, if it was in one."""

    worker: int
    running: int | None
    reason: str


class DrainBegan(Struct, frozen=True):
    """Take nothing new: hand back what has not started, finish what runs until `until`, then end it."""

    until: float


class DrainEnded(Struct, frozen=True):
    """Take work again."""


class Tick(Struct, frozen=True):
    """The time that the last `Wake` named has come."""


Event: TypeAlias = (
    LeaseArrived
    | OwnerUp
    | OwnerLost
    | OwnerBound
    | Recalled
    | EnvironmentReady
    | EnvironmentFailed
    | EnvironmentGone
    | WorkerReady
    | WorkerRan
    | WorkerEnded
    | Lent
    | DrainBegan
    | DrainEnded
    | Tick
)
