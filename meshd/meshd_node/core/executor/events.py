"""What can happen to an executor."""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from meshd_node.core.submitter import Submitter
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.messages.worker import WorkResult


class LeasedWork(NamedTuple):
    """One attempt of a unit that this node may run."""

    unit: int
    attempt: int
    function: Digest
    payload: bytes


@dataclass(frozen=True, slots=True)
class LeaseArrived:
    """Verified work: the tranche's signature covers each unit, and the charter lets this submitter in."""

    owner: NodeId
    job: JobId
    epoch: int
    submitter: Submitter
    timeout_ms: int
    units: list[LeasedWork]


@dataclass(frozen=True, slots=True)
class OwnerUp:
    """A session with a node that may submit work has begun (also with this node itself)."""

    owner: NodeId


@dataclass(frozen=True, slots=True)
class OwnerLost:
    """The session ended: nobody waits for that owner's units here any more."""

    owner: NodeId


@dataclass(frozen=True, slots=True)
class Recalled:
    """An owner does not want these units any more. `indices` empty: nothing of the job."""

    owner: NodeId
    job: JobId
    epoch: int
    indices: list[int]


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker that `StartWorker` asked for can take units."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerRan:
    """A worker finished units or, with HANDED_BACK, gives units back that it did not start."""

    worker: int
    results: list[WorkResult]


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """A worker process is gone. `running` is the serial of the unit that it was in, if it was in one."""

    worker: int
    running: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class DrainBegan:
    """Take nothing new: hand back what has not started, finish what runs until `until`, then end it."""

    until: float


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that the last `Wake` named has come."""


Event: TypeAlias = (
    LeaseArrived | OwnerUp | OwnerLost | Recalled | WorkerReady | WorkerRan | WorkerEnded | DrainBegan | Tick
)
