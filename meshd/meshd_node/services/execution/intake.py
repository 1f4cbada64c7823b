"""What owners sent us of their jobs, and the check that a lease's units are what the submitter signed for.

The two connections of a session may overtake each other. So a lease may arrive before the function that it calls, and
is parked; a lease from a tranche that was dropped in the meantime is handed back; and what still arrives of a job that
has ended is ignored.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.events import LeasedWork
from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import environment_of
from meshd_node.core.tranche_window import TrancheWindow
from meshd_node.services.execution.functions import (
    FUNCTION_BYTES_OF_SUBMITTER_MAX,
    FunctionStore,
    TooManyFunctions,
)
from meshd_node.services.execution.parking import Parking
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.errors import BadSignature, MalformedMessage, NotAllowed, UnexpectedMessage
from meshd_protocol.ids import DIGEST_BYTES, Digest, JobId, MeshId, function_digest, job_id, unit_digests
from meshd_protocol.messages.peer import FunctionData, JobOpen, LeaseGrant, TrancheOpen
from meshd_protocol.records import Manifest, Tranche, decode_record
from meshd_protocol.signing import Domain, verify

# One owner's jobs that have not ended, as many as an owner lets all its users open. A manifest and its entries here
# cost 2 KiB at most: 16 MiB. Their tranches are bounded together (`TrancheWindow`, 4 MiB), and so are their functions.
OPEN_JOBS_MAX: Final = 8_192
# Functions of all users of one owner, who names them: four users that have filled their share.
FUNCTION_BYTES_OF_OWNER_MAX: Final = 4 * FUNCTION_BYTES_OF_SUBMITTER_MAX
# Jobs that ended, whose stragglers are ignored: more than can be on their way.
ENDED_JOBS_KEPT: Final = 1_024


@dataclass(slots=True)
class KnownJob:
    """One job of an owner: its manifest, verified, and why none of its units are run here, if there was no room."""

    manifest: Manifest
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The lease is complete and covered."""

    manifest: Manifest
    work: list[LeasedWork]


@dataclass(frozen=True, slots=True)
class Parked:
    """The lease waits for a function."""


@dataclass(frozen=True, slots=True)
class Refused:
    """There was no room for the job's functions: the owner runs it elsewhere."""

    reason: str


@dataclass(frozen=True, slots=True)
class HandBack:
    """The job or the tranche is not known here (any more): the owner decides again."""


class Intake:
    """The jobs of one owner, in one session with it."""

    def __init__(self, owner: Certified, mesh: MeshId, functions: FunctionStore, config: ExecutorConfig) -> None:
        self._owner = owner
        self._mesh = mesh
        self._functions = functions
        self._function_bytes = 0
        self._tranches: TrancheWindow[Tranche] = TrancheWindow()
        self._jobs: dict[JobId, KnownJob] = {}
        self._ended: OrderedDict[JobId, None] = OrderedDict()
        self._parking = Parking(config)

    def open_job(self, message: JobOpen) -> None:
        """Check and keep a manifest."""
        body = verify(self._owner.key, Domain.MANIFEST, message.manifest)
        manifest = decode_record(Manifest, body)
        if manifest.mesh != self._mesh or manifest.submitter != self._owner.node:
            raise NotAllowed("the manifest is of another mesh or another submitter")
        if Role.SUBMITTER not in self._owner.roles:
            raise NotAllowed("this node's certificate has no role submitter")
        job = job_id(body)
        if job in self._ended or job in self._jobs:
            return
        if len(self._jobs) >= OPEN_JOBS_MAX:
            raise NotAllowed(f"more than {OPEN_JOBS_MAX} open jobs")
        self._jobs[job] = KnownJob(manifest)

    def open_tranche(self, message: TrancheOpen) -> None:
        """Check and keep a tranche, dropping the oldest exactly as the owner does."""
        if message.job not in self._jobs:
            return
        tranche = decode_record(Tranche, verify(self._owner.key, Domain.TRANCHE, message.tranche))
        if tranche.job != message.job:
            raise BadSignature("the tranche is of another job")
        if len(tranche.digests) % DIGEST_BYTES:
            raise MalformedMessage("a tranche's digests are not whole")
        self._tranches.put(message.job, tranche.sequence, len(tranche.digests) // DIGEST_BYTES, tranche)

    def add_function(self, message: FunctionData) -> list[LeaseGrant]:
        """Keep a function, or refuse its job from now on; return the leases that need not wait now."""
        job = self._jobs.get(message.job)
        if job is None or job.refusal:
            return []
        try:
            self._keep(message, Submitter(self._owner.node, job.manifest.uid))
        except TooManyFunctions as error:
            # One user's share is full: no fault of the others', whose work the same session carries.
            job.refusal = str(error)
        return self._parking.take(message.job)

    def accept(self, lease: LeaseGrant) -> Accepted | Parked | HandBack | Refused:
        """The lease's units if each is covered by the submitter's signature; `BadSignature` if one is not."""
        job = self._jobs.get(lease.job)
        if job is not None and job.refusal:
            return Refused(job.refusal)
        tranche = self._tranches.get(lease.job, lease.tranche)
        if job is None or tranche is None:
            return HandBack()
        environment = environment_of(job.manifest.needs)
        if not all(self._functions.has(lease.job, digest) for digest in [*lease.functions, *environment]):
            self._parking.park(lease)
            return Parked()
        return Accepted(job.manifest, _covered(lease, tranche))

    def job_ended(self, job: JobId) -> None:
        """Forget all of a job."""
        self._ended[job] = None
        if len(self._ended) > ENDED_JOBS_KEPT:
            self._ended.popitem(last=False)
        if self._jobs.pop(job, None) is not None:
            self._tranches.forget(job)
            self._parking.take(job)
            self._function_bytes -= self._functions.forget(job)

    def close(self) -> None:
        """The session ended: forget all jobs."""
        for job in list(self._jobs):
            self.job_ended(job)

    def _keep(self, message: FunctionData, submitter: Submitter) -> None:
        size = self._function_bytes + len(message.data)
        if size > FUNCTION_BYTES_OF_OWNER_MAX:
            raise TooManyFunctions(f"functions of {size} bytes, {FUNCTION_BYTES_OF_OWNER_MAX} are kept for one node")
        digest = function_digest(message.data)
        self._function_bytes += self._functions.put(submitter, message.job, digest, message.data)


def _covered(lease: LeaseGrant, tranche: Tranche) -> list[LeasedWork]:
    units = lease.units
    try:
        functions: list[Digest] = [lease.functions[unit.function] for unit in units]
    except IndexError as error:
        raise UnexpectedMessage("a unit calls a function that its lease does not list") from error
    digests = unit_digests(functions, [unit.payload for unit in units])
    if digests != tranche.digests_of([unit.index for unit in units]):
        raise BadSignature("a unit is not what the submitter signed for")
    return [
        LeasedWork(unit.index, unit.attempt, function, unit.payload)
        for unit, function in zip(units, functions, strict=True)
    ]
