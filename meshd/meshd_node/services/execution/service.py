"""The service around the executor's machine. Spec: 07-jobs.md.

It is entered synchronously (decision 0001): by links with leases, by the job service for this node's own units, by the
worker pool with results, by its timer.
"""

from collections.abc import Callable
from typing import Protocol, assert_never

from meshd_node.charter.allowance import Allowance
from meshd_node.core.executor import effects, events
from meshd_node.core.executor.events import LeasedWork
from meshd_node.core.executor.machine import Executor
from meshd_node.core.owner import effects as owner_effects
from meshd_node.core.owner.job import FIRST_EPOCH
from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Tenant, tenant_of
from meshd_node.exec.pool import WorkerPool
from meshd_node.net.link import Link
from meshd_node.seams import Seams
from meshd_node.services.execution.admittance import Admittance
from meshd_node.services.execution.environments import Environments
from meshd_node.services.execution.functions import FunctionStore
from meshd_node.services.execution.intake import Accepted, HandBack, Intake, Parked, Refused
from meshd_node.services.one_at_a_time import OneAtATime
from meshd_node.services.outflow import Outflow
from meshd_node.services.receipts import sign_results
from meshd_node.services.timer import Timer
from meshd_protocol.certificates import Certified
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.limits import BATCH_UNITS_MAX
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus
from meshd_protocol.messages.membership import Load
from meshd_protocol.messages.peer import (
    AttemptsEnded,
    Credit,
    FunctionData,
    JobOpen,
    LeaseGrant,
    Recall,
    TrancheOpen,
)
from meshd_protocol.messages.worker import WorkResult
from meshd_protocol.records import Manifest, Runtime


class OwnJobs(Protocol):
    """This node's own owner, reached without a wire."""

    def credit(self, node: NodeId, message: Credit) -> None:
        """Windows for own units."""
        ...

    def own_results(self, job: JobId, epoch: int, results: list[AttemptResult]) -> None:
        """Results of own units that ran here."""
        ...

    def attempts_ended(self, node: NodeId, message: AttemptsEnded) -> None:
        """Own attempts that ended here without a result."""
        ...


class ExecutionService:
    """Runs units of any owner on this node's workers."""

    def __init__(
        self, executor: Executor, me: Certified, seams: Seams, admittance: Admittance, outflow: Outflow
    ) -> None:
        self.executor = executor
        self.functions = FunctionStore()
        self._me = me
        self._seams = seams
        self._admittance = admittance
        self._outflow = outflow
        self._links: dict[NodeId, Link] = {}
        # Of the owners that may send work, or might in this session; of all others, nothing is looked at or kept.
        self._intakes: dict[NodeId, Intake] = {}
        # What each owner that is here may have run, this node itself among them.
        self._allowed: dict[NodeId, Allowance] = {}
        # Those of them that the machine knows: they may have something run, or might once.
        self._up: set[NodeId] = set()
        self._handle = OneAtATime(self._apply)
        # Called when work on a GPU failed: perhaps for the GPU's sake.
        self.on_gpu_trouble: Callable[[], None] = lambda: None
        self.timer = Timer(lambda: self._handle(events.Tick()), outflow.flush)

    def connect(self, pool: WorkerPool, jobs: OwnJobs, drained: "Drained", environments: Environments) -> None:
        """Hand in the parts that need this service themselves; then units of this node's own jobs are welcome."""
        self._pool = pool
        self._environments = environments
        self._jobs = jobs
        self._drained = drained
        self._allow(self._me)

    # --- links ------------------------------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """A session with a node began; it may send work."""
        node = link.peer.node
        self._links[node] = link
        self._allow(link.peer)

    def link_down(self, link: Link) -> None:
        """The session ended: nobody waits for its units."""
        node = link.peer.node
        if self._links.get(node) is link:
            del self._links[node]
            del self._allowed[node]
            if intake := self._intakes.pop(node, None):
                intake.close()
            if node in self._up:
                self._up.remove(node)
                self._handle(events.OwnerLost(node))

    def job_open(self, node: NodeId, message: JobOpen) -> None:
        """An owner tells of a job."""
        if intake := self._intakes.get(node):
            intake.open_job(message)

    def tranche_open(self, node: NodeId, message: TrancheOpen) -> None:
        """An owner tells what its submitter signed for."""
        if intake := self._intakes.get(node):
            intake.open_tranche(message)

    def function_data(self, node: NodeId, message: FunctionData) -> None:
        """An owner sends a function; leases may have waited for it."""
        if intake := self._intakes.get(node):
            for lease in intake.add_function(message):
                self.lease(node, lease)

    def lease(self, node: NodeId, lease: LeaseGrant) -> None:
        """An owner lets this node run units."""
        intake = self._intakes.get(node)
        if intake is None:
            self._give_back(node, lease, AttemptStatus.REFUSED, self._allowed[node].reason)
            return
        match intake.accept(lease):
            case Accepted(manifest, work):
                self._run(node, lease, manifest, work)
            case HandBack():
                self._give_back(node, lease, AttemptStatus.HANDED_BACK, "the job or tranche is not known here any more")
            case Refused(reason):
                self._give_back(node, lease, AttemptStatus.REFUSED, reason)
            case Parked():
                pass
            case never:
                assert_never(never)

    def recall(self, node: NodeId, message: Recall) -> None:
        """An owner does not want units any more."""
        intake = self._intakes.get(node)
        if intake is None:
            return
        if not message.indices:
            intake.job_ended(message.job)
        self._handle(events.Recalled(node, message.job, message.epoch, message.indices))

    # --- this node's own jobs ---------------------------------------------------------------------------------

    def own_function(self, submitter: Submitter, job: JobId, digest: Digest, data: bytes) -> None:
        """A function of an own job; raise `TooManyFunctions` if that user's fill their share."""
        self.functions.put(submitter, job, digest, data)

    def own_lease(self, lease: owner_effects.Lease, tenant: Tenant, timeout_ms: int) -> None:
        """Own units to run here: nobody has to prove to this node what it submitted itself."""
        if reason := self._allowed[self._me.node].why_not(tenant.harness.runtime):
            self._end_own(lease, reason)
            return
        work = list(map(LeasedWork, lease.indices, lease.attempts, lease.functions, lease.payloads))
        self._handle(events.LeaseArrived(self._me.node, lease.job, lease.epoch, tenant, timeout_ms, work))

    def own_recall(self, recall: owner_effects.Recall) -> None:
        """Own units that nobody wants any more."""
        self._handle(events.Recalled(self._me.node, recall.job, recall.epoch, recall.indices))

    def own_job_ended(self, job: JobId) -> None:
        """An own job ended."""
        self._handle(events.Recalled(self._me.node, job, FIRST_EPOCH, []))
        self.functions.forget(job)

    def _end_own(self, lease: owner_effects.Lease, reason: str) -> None:
        ends = [
            AttemptResult(index, attempt, AttemptStatus.REFUSED, b"", 0, reason)
            for index, attempt in zip(lease.indices, lease.attempts, strict=True)
        ]
        self._report_ends(self._me.node, lease.job, lease.epoch, ends)

    # --- what is allowed --------------------------------------------------------------------------------------

    def review(self) -> None:
        """The charter, or what keeps work apart, is another than before: what does not fit it is handed back."""
        for owner in (self._me, *(link.peer for link in self._links.values())):
            self._allow(owner)
        self._outflow.flush()

    def _allow(self, owner: Certified) -> None:
        """See what an owner may have run here now, and make it so."""
        node, allowed = owner.node, self._admittance.allowance(owner)
        before = self._allowed.get(node)
        self._allowed[node] = allowed
        # Another reason for the same gives no more time to what runs.
        if before is not None and before.runtimes == allowed.runtimes:
            return
        if node not in self._up:
            if not allowed.runtimes:
                return
            self._up.add(node)
            if node != self._me.node:
                self._intakes[node] = Intake(owner, self._me.mesh, self.functions, self.executor.config)
            self._handle(events.OwnerUp(node))
            if len(allowed.runtimes) == len(Runtime):
                return
        until = self._seams.monotonic() + self._admittance.grace_s
        self._handle(events.OwnerBound(node, allowed.runtimes, until, allowed.reason))

    # --- workers ----------------------------------------------------------------------------------------------

    def worker_ready(self, worker: int) -> None:
        """A worker can take units."""
        self._handle(events.WorkerReady(worker))
        self._outflow.flush()

    def worker_ran(self, worker: int, results: list[WorkResult]) -> None:
        """A worker finished units or gives some back."""
        if self.executor.gpus_of(worker) and any(result.status is AttemptStatus.RAISED for result in results):
            self.on_gpu_trouble()
        self._handle(events.WorkerRan(worker, results))
        self._outflow.flush()

    def worker_ended(self, worker: int, running: int | None, reason: str) -> None:
        """A worker is gone."""
        if self.executor.gpus_of(worker):
            self.on_gpu_trouble()
        self._handle(events.WorkerEnded(worker, running, reason))
        self._outflow.flush()

    # --- environments -----------------------------------------------------------------------------------------

    def environment_ready(self, environment: bytes) -> None:
        """Work that waited for it may start."""
        self._handle(events.EnvironmentReady(environment))
        self._outflow.flush()

    def environment_failed(self, environment: bytes, reason: str) -> None:
        """Work that waited for it can not be done here."""
        self._handle(events.EnvironmentFailed(environment, reason))
        self._outflow.flush()

    def environment_gone(self, environment: bytes) -> None:
        """It may be removed: it is asked for again when it is needed."""
        self._handle(events.EnvironmentGone(environment))

    def uses(self, environment: bytes) -> bool:
        """Whether work that is here needs it."""
        return self.executor.uses(environment)

    # --- what this node lends ---------------------------------------------------------------------------------

    def lend(self, lent: events.Lent) -> None:
        """Lend this from now on; what does not fit any more is handed back."""
        self._handle(lent)
        self._outflow.flush()

    def drain(self, until: float) -> None:
        """Take nothing new; finish what runs until then."""
        self._handle(events.DrainBegan(until))

    def resume(self) -> None:
        """Take work again."""
        self._handle(events.DrainEnded())

    # --- what others ask --------------------------------------------------------------------------------------

    def load(self) -> Load:
        """How busy this node is now."""
        running = self.executor.busy
        return Load(running, self.executor.running - running + self.executor.queued)

    def serves(self, node: NodeId) -> bool:
        """Whether a node waits for answers from here."""
        return self.executor.owes(node)

    # --- the machine ------------------------------------------------------------------------------------------

    def _run(self, node: NodeId, lease: LeaseGrant, manifest: Manifest, work: list[LeasedWork]) -> None:
        refusal = self._admittance.refusal(self._allowed[node], manifest.needs)
        if refusal:
            self._give_back(node, lease, AttemptStatus.REFUSED, refusal)
            return
        tenant = tenant_of(Submitter(manifest.submitter, manifest.uid), manifest.needs)
        self._handle(events.LeaseArrived(node, lease.job, lease.epoch, tenant, manifest.policy.timeout_ms, work))

    def _give_back(self, node: NodeId, lease: LeaseGrant, status: AttemptStatus, reason: str) -> None:
        ends = [AttemptResult(unit.index, unit.attempt, status, b"", 0, reason) for unit in lease.units]
        self._links[node].send(AttemptsEnded(lease.job, lease.epoch, ends))

    def _apply(self, event: events.Event) -> None:
        for effect in self.executor.handle(event, self._seams.monotonic()):
            match effect:
                case effects.RunOn(worker, job, serials, functions, payloads):
                    self._pool.run_units(worker, job, serials, functions, payloads)
                case effects.ReportResults():
                    self._report_results(effect)
                case effects.ReportEnds(owner, job, epoch, ends):
                    self._report_ends(owner, job, epoch, ends)
                case effects.GrantCredit(owner, units, payload_bytes):
                    self._grant(owner, Credit(units, payload_bytes))
                case effects.Wake(at):
                    self.timer.set(at)
                case effects.PrepareEnvironment(environment, submitter):
                    self._prepare(environment, submitter)
                case effects.StartWorker(worker, tenant, gpus, memory_bytes):
                    self._pool.start(worker, tenant, gpus, memory_bytes)
                case effects.EndWorker(worker, reason):
                    self._pool.end(worker, reason)
                case effects.Drained():
                    self._drained()
                case _:
                    assert_never(effect)

    def _prepare(self, environment: bytes, submitter: Submitter) -> None:
        lock = self.functions.find(Digest(environment))
        if lock is None:
            self._handle(events.EnvironmentFailed(environment, "its job has ended"))
        else:
            self._environments.prepare(environment, submitter, lock)

    def _report_results(self, report: effects.ReportResults) -> None:
        if report.owner == self._me.node:
            self._jobs.own_results(report.job, report.epoch, report.results)
        elif link := self._links.get(report.owner):
            signer, me = self._seams.signer, self._me.node
            link.send(
                sign_results(signer, me, report.owner, report.job, report.epoch, report.results, self._pool.level)
            )

    def _report_ends(self, owner: NodeId, job: JobId, epoch: int, ends: list[AttemptResult]) -> None:
        for start in range(0, len(ends), BATCH_UNITS_MAX):
            message = AttemptsEnded(job, epoch, ends[start : start + BATCH_UNITS_MAX])
            if owner == self._me.node:
                self._jobs.attempts_ended(owner, message)
            elif link := self._links.get(owner):
                link.send(message)

    def _grant(self, owner: NodeId, credit: Credit) -> None:
        if owner == self._me.node:
            self._jobs.credit(owner, credit)
        elif link := self._links.get(owner):
            link.send(credit)


class Drained(Protocol):
    """Called once when a drain is over, unless work is taken again before."""

    def __call__(self) -> None:
        """Nothing runs here any more."""
        ...
