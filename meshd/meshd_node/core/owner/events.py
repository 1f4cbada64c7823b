"""What can happen to an owner. Events carry batches: the machine is entered once for 256 units, not 256 times."""

from typing import TypeAlias

from msgspec import Struct

from meshd_node.core.submitter import Submitter
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.messages.attempts import AttemptResult
from meshd_protocol.records import Needs, Offer, Policy


class JobAccepted(Struct, frozen=True):
    """A local user opened a job and its manifest is signed. `detached`: outcomes wait for whoever attaches.

    `only`: no other node may run its units, for they are about this one.
    """

    job: JobId
    name: str
    submitter: Submitter
    policy: Policy
    needs: Needs
    detached: bool = False
    only: NodeId | None = None


class UnitsSubmitted(Struct, frozen=True):
    """A signed tranche: unit `first + i` calls `functions[i]` with `payloads[i]`."""

    job: JobId
    tranche: int
    first: int
    functions: list[Digest]
    payloads: list[bytes]


class JobClosed(Struct, frozen=True):
    """No more units will come."""

    job: JobId


class UnitsCancelled(Struct, frozen=True):
    """Units that nobody wants any more. `indices` None: the whole job, which is closed by this as well."""

    job: JobId
    indices: list[int] | None


class ExecutorView(Struct, frozen=True):
    """What the owner must know of a node to place work there: from its certificate, its offer and this link."""

    node: NodeId
    operator: str
    trusted: bool  # the submitter's own operator, or the role `trusted`: one copy is believed
    accepts: bool  # it has the role `worker`, is alive, and would take our work at all
    offer: Offer
    rtt_s: float = 0.0


class ExecutorChanged(Struct, frozen=True):
    """A node can be given work (again), or what is known of it changed. Also this node itself, if it executes."""

    view: ExecutorView


class ExecutorLost(Struct, frozen=True):
    """The session with a node ended: all that it had not answered is lost. Credits fall to nothing."""

    node: NodeId
    reason: str


class ExecutorRevoked(Struct, frozen=True):
    """A node has no place in the mesh any more: it holds no lease, and what it said of undecided units is void."""

    node: NodeId


class GpusLookedAt(Struct, frozen=True):
    """What a look at a node's GPUs showed: why it gets no work that needs one, or "" if they are there."""

    node: NodeId
    fault: str


class CreditGranted(Struct, frozen=True):
    """How much a node takes at a time: absolute windows over what it has not answered yet."""

    node: NodeId
    units: int
    payload_bytes: int


class ResultsArrived(Struct, frozen=True):
    """Results under one verified receipt. `digests[i]` is `result_digest` of `results[i]`."""

    node: NodeId
    job: JobId
    epoch: int
    results: list[AttemptResult]
    digests: list[Digest]


class AttemptsFailed(Struct, frozen=True):
    """Attempts that ended without a result: CRASHED, TIMED_OUT, HANDED_BACK, REFUSED or INTERRUPTED."""

    node: NodeId
    job: JobId
    epoch: int
    ends: list[AttemptResult]


class DeliveryPaused(Struct, frozen=True):
    """The submitter does not read its outcomes: start no more units of this job until `DeliveryResumed`."""

    job: JobId


class DeliveryResumed(Struct, frozen=True):
    """The submitter reads again."""

    job: JobId


class JobForgotten(Struct, frozen=True):
    """Drop an ended job and all that is kept of it."""

    job: JobId


class Tick(Struct, frozen=True):
    """The time that the last `Wake` named has come."""


Event: TypeAlias = (
    JobAccepted
    | UnitsSubmitted
    | JobClosed
    | UnitsCancelled
    | ExecutorChanged
    | ExecutorLost
    | ExecutorRevoked
    | GpusLookedAt
    | CreditGranted
    | ResultsArrived
    | AttemptsFailed
    | DeliveryPaused
    | DeliveryResumed
    | JobForgotten
    | Tick
)
