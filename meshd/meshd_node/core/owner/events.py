"""What can happen to an owner. Events carry batches: the machine is entered once for 256 units, not 256 times."""

from dataclasses import dataclass
from typing import TypeAlias

from meshd_node.core.submitter import Submitter
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.messages.attempts import AttemptResult
from meshd_protocol.records import Needs, Offer, Policy


@dataclass(frozen=True, slots=True)
class JobAccepted:
    """A local user opened a job and its manifest is signed. `detached`: outcomes wait for whoever attaches."""

    job: JobId
    name: str
    submitter: Submitter
    policy: Policy
    needs: Needs
    detached: bool = False


@dataclass(frozen=True, slots=True)
class UnitsSubmitted:
    """A signed tranche: unit `first + i` calls `functions[i]` with `payloads[i]`."""

    job: JobId
    tranche: int
    first: int
    functions: list[Digest]
    payloads: list[bytes]


@dataclass(frozen=True, slots=True)
class JobClosed:
    """No more units will come."""

    job: JobId


@dataclass(frozen=True, slots=True)
class UnitsCancelled:
    """Units that nobody wants any more. `indices` None: the whole job, which is closed by this as well."""

    job: JobId
    indices: list[int] | None


@dataclass(frozen=True, slots=True)
class ExecutorView:
    """What the owner must know of a node to place work there: from its certificate, its offer and this link."""

    node: NodeId
    operator: str
    trusted: bool  # the submitter's own operator, or the role `trusted`: one copy is believed
    accepts: bool  # it has the role `worker`, is alive, and would take our work at all
    offer: Offer
    rtt_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ExecutorChanged:
    """A node can be given work (again), or what is known of it changed. Also this node itself, if it executes."""

    view: ExecutorView


@dataclass(frozen=True, slots=True)
class ExecutorLost:
    """The session with a node ended: all that it had not answered is lost. Credits fall to nothing."""

    node: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class CreditGranted:
    """How much a node takes at a time: absolute windows over what it has not answered yet."""

    node: NodeId
    units: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class ResultsArrived:
    """Results under one verified receipt. `digests[i]` is `result_digest` of `results[i]`."""

    node: NodeId
    job: JobId
    epoch: int
    results: list[AttemptResult]
    digests: list[Digest]


@dataclass(frozen=True, slots=True)
class AttemptsFailed:
    """Attempts that ended without a result: CRASHED, TIMED_OUT, HANDED_BACK or REFUSED."""

    node: NodeId
    job: JobId
    epoch: int
    ends: list[AttemptResult]


@dataclass(frozen=True, slots=True)
class DeliveryPaused:
    """The submitter does not read its outcomes: start no more units of this job until `DeliveryResumed`."""

    job: JobId


@dataclass(frozen=True, slots=True)
class DeliveryResumed:
    """The submitter reads again."""

    job: JobId


@dataclass(frozen=True, slots=True)
class JobForgotten:
    """Drop an ended job and all that is kept of it."""

    job: JobId


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that the last `Wake` named has come."""


Event: TypeAlias = (
    JobAccepted
    | UnitsSubmitted
    | JobClosed
    | UnitsCancelled
    | ExecutorChanged
    | ExecutorLost
    | CreditGranted
    | ResultsArrived
    | AttemptsFailed
    | DeliveryPaused
    | DeliveryResumed
    | JobForgotten
    | Tick
)
