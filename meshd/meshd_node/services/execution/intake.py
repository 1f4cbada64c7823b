"""What owners sent us of their jobs, and the check that a lease's units are what the submitter signed for.

The two connections of a session may overtake each other. So a lease may arrive before the function that it calls, and
is parked; a lease from a tranche that was dropped in the meantime is handed back; and what still arrives of a job that
has ended is ignored.
"""

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import Final

from meshd_node.core.executor.events import LeasedWork
from meshd_node.core.tranche_window import TrancheWindow
from meshd_node.services.execution.functions import FunctionStore
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.errors import BadSignature, MalformedMessage, NotAllowed, UnexpectedMessage
from meshd_protocol.ids import DIGEST_BYTES, Digest, JobId, MeshId, function_digest, job_id, unit_digests
from meshd_protocol.messages.peer import FunctionData, JobOpen, LeaseGrant, TrancheOpen
from meshd_protocol.records import Manifest, Tranche, decode_record
from meshd_protocol.signing import Domain, verify

# One owner's jobs that have not ended, as an executor sees them.
OPEN_JOBS_MAX: Final = 4_096
# Leases that wait for their function; an owner keeps its credit, which is far below this.
PARKED_LEASES_MAX: Final = 1_024
# Jobs that ended, whose stragglers are ignored: more than can be on their way.
ENDED_JOBS_KEPT: Final = 1_024


@dataclass(slots=True)
class KnownJob:
    """One job of an owner: its manifest, verified, and its newest tranches, verified."""

    manifest: Manifest
    tranches: TrancheWindow[Tranche] = field(default_factory=TrancheWindow)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The lease is complete and covered."""

    manifest: Manifest
    work: list[LeasedWork]


@dataclass(frozen=True, slots=True)
class Parked:
    """The lease waits for a function."""


@dataclass(frozen=True, slots=True)
class HandBack:
    """The job or the tranche is not known here (any more): the owner decides again."""


class Intake:
    """The jobs of one owner, in one session with it."""

    def __init__(self, owner: Certified, mesh: MeshId, functions: FunctionStore) -> None:
        self._owner = owner
        self._mesh = mesh
        self._functions = functions
        self._jobs: dict[JobId, KnownJob] = {}
        self._ended: OrderedDict[JobId, None] = OrderedDict()
        self._parked: defaultdict[JobId, list[LeaseGrant]] = defaultdict(list)
        self._parked_count = 0

    def open_job(self, message: JobOpen) -> None:
        """Check and keep a manifest."""
        body = verify(self._owner.key, Domain.MANIFEST, message.manifest)
        manifest = decode_record(Manifest, body)
        if manifest.mesh != self._mesh or manifest.submitter != self._owner.node:
            raise NotAllowed("the manifest is of another mesh or another submitter")
        if Role.SUBMITTER not in self._owner.roles:
            raise NotAllowed("this node's certificate has no role submitter")
        if len(self._jobs) >= OPEN_JOBS_MAX:
            raise NotAllowed(f"more than {OPEN_JOBS_MAX} open jobs")
        job = job_id(body)
        if job not in self._ended:
            self._jobs.setdefault(job, KnownJob(manifest))

    def open_tranche(self, message: TrancheOpen) -> None:
        """Check and keep a tranche, dropping the oldest exactly as the owner does."""
        job = self._jobs.get(message.job)
        if job is None:
            return
        tranche = decode_record(Tranche, verify(self._owner.key, Domain.TRANCHE, message.tranche))
        if tranche.job != message.job:
            raise BadSignature("the tranche is of another job")
        if len(tranche.digests) % DIGEST_BYTES:
            raise MalformedMessage("a tranche's digests are not whole")
        job.tranches.put(tranche.sequence, len(tranche.digests) // DIGEST_BYTES, tranche)

    def add_function(self, message: FunctionData) -> list[LeaseGrant]:
        """Keep a function; return the leases that may be complete now."""
        if message.job not in self._jobs:
            return []
        digest = function_digest(message.data)
        self._functions.put(self._owner.node, message.job, digest, message.data)
        waiting = self._parked.pop(message.job, [])
        self._parked_count -= len(waiting)
        return waiting

    def accept(self, lease: LeaseGrant) -> Accepted | Parked | HandBack:
        """The lease's units if each is covered by the submitter's signature; `BadSignature` if one is not."""
        job = self._jobs.get(lease.job)
        tranche = None if job is None else job.tranches.get(lease.tranche)
        if job is None or tranche is None:
            return HandBack()
        if not all(self._functions.has(self._owner.node, lease.job, digest) for digest in lease.functions):
            self._park(lease)
            return Parked()
        return Accepted(job.manifest, _covered(lease, tranche))

    def job_ended(self, job: JobId) -> None:
        """Forget all of a job."""
        self._jobs.pop(job, None)
        self._ended[job] = None
        if len(self._ended) > ENDED_JOBS_KEPT:
            self._ended.popitem(last=False)
        self._parked_count -= len(self._parked.pop(job, ()))
        self._functions.forget(self._owner.node, job)

    def close(self) -> None:
        """The session ended: forget all jobs."""
        for job in list(self._jobs):
            self.job_ended(job)

    def _park(self, lease: LeaseGrant) -> None:
        if self._parked_count >= PARKED_LEASES_MAX:
            raise NotAllowed(f"more than {PARKED_LEASES_MAX} leases wait for their functions")
        self._parked[lease.job].append(lease)
        self._parked_count += 1


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
