"""The service around the owner's machine. Spec: 07-jobs.md.

It is entered synchronously (decision 0001): by the local socket with submissions, by links with results, by its timer.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol, assert_never

from meshd_node.core.owner import effects, events
from meshd_node.core.owner.machine import Owner
from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Tenant, environment_of, tenant_of
from meshd_node.log import log
from meshd_node.net.link import Link
from meshd_node.seams import Seams
from meshd_node.services.jobs.context import JobContext, Listener, TrancheShelf
from meshd_node.services.jobs.journal import JournalStore
from meshd_node.services.jobs.leases import LeaseSender
from meshd_node.services.jobs.reports import Reports
from meshd_node.services.jobs.retention import Retention
from meshd_node.services.one_at_a_time import OneAtATime
from meshd_node.services.outflow import Outflow
from meshd_node.services.receipts import check_results, result_digests
from meshd_node.services.timer import Timer
from meshd_protocol.errors import RemoteProtocolError
from meshd_protocol.ids import NONCE_BYTES, Digest, JobId, MeshId, NodeId, function_digest, job_id, unit_digests
from meshd_protocol.limits import TRANCHE_UNITS_MAX
from meshd_protocol.messages.attempts import AttemptResult
from meshd_protocol.messages.local import OpenJob, Outcome
from meshd_protocol.messages.peer import (
    AttemptsEnded,
    Credit,
    ResultBatch,
)
from meshd_protocol.records import Manifest, Tranche, encode_record
from meshd_protocol.signing import Domain, Signed

# What one submitter may have waiting. A program blocks long before (at half of it); beyond, it breaks the protocol.
WAITING_BYTES_MAX: Final = 1 << 30
# Jobs that have not ended, of one user and of all: about 8 KB each.
OPEN_JOBS_OF_USER_MAX: Final = 1_024
OPEN_JOBS_MAX: Final = 8_192


class LocalExecutor(Protocol):
    """This node's own executor, reached without a wire."""

    def own_function(self, submitter: Submitter, job: JobId, digest: Digest, data: bytes) -> None:
        """A function of an own job; raise `TooManyFunctions` if that user's fill their share."""
        ...

    def own_lease(self, lease: effects.Lease, tenant: Tenant, timeout_ms: int) -> None:
        """Units of an own job to run here."""
        ...

    def own_recall(self, recall: effects.Recall) -> None:
        """Forget these units."""
        ...

    def own_job_ended(self, job: JobId) -> None:
        """Forget the job."""
        ...


class TooMuchWaiting(RemoteProtocolError):
    """A program submitted beyond every bound that it was told to keep."""


class JobService:
    """Owns the jobs of this node's users."""

    def __init__(
        self,
        owner: Owner,
        node: NodeId,
        mesh: MeshId,
        seams: Seams,
        journal: JournalStore,
        local: LocalExecutor,
        outflow: Outflow,
    ) -> None:
        self.owner = owner
        self.reports = Reports()
        # Told after each submission: nodes may have to be asked for.
        self.on_submitted: Callable[[], None] = lambda: None
        self._node = node
        self._mesh = mesh
        self._seams = seams
        self._journal = journal
        self._local = local
        self._leases = LeaseSender()
        self._contexts: dict[JobId, JobContext] = {}
        self._open_jobs: Counter[Submitter] = Counter()
        self._waiting_bytes: Counter[Submitter] = Counter()
        self._retention = Retention()
        self._handle = OneAtATime(self._apply)
        self.timer = Timer(self._tick, outflow.flush)

    # --- local users ------------------------------------------------------------------------------------------

    def open_job(self, uid: int, request: OpenJob, listener: Listener, *, only: NodeId | None = None) -> JobContext:
        """Sign a manifest and accept the job; raise `TooMuchWaiting` if too many are open.

        `only`: no other node may run its units.
        """
        submitter = Submitter(self._node, uid)
        if self._open_jobs[submitter] >= OPEN_JOBS_OF_USER_MAX or self._open_jobs.total() >= OPEN_JOBS_MAX:
            raise TooMuchWaiting(
                f"{self._open_jobs[submitter]} jobs of user {uid} are open: wait until some have ended"
            )
        self._open_jobs[submitter] += 1
        manifest = Manifest(
            mesh=self._mesh,
            submitter=self._node,
            uid=uid,
            nonce=self._seams.entropy(NONCE_BYTES),
            created_ms=int(self._seams.wall() * 1_000),
            name=request.name,
            policy=request.policy,
            needs=request.needs,
        )
        body = encode_record(manifest)
        context = JobContext(
            job=job_id(body),
            manifest=self._seams.signer.sign(Domain.MANIFEST, body),
            tenant=tenant_of(submitter, request.needs),
            environment=environment_of(request.needs),
            detached=request.detached,
            timeout_ms=request.policy.timeout_ms,
            listener=listener,
            tranches=TrancheShelf(self._sign),
        )
        self._contexts[context.job] = context
        self._handle(
            events.JobAccepted(
                context.job, request.name, submitter, request.policy, request.needs, request.detached, only
            )
        )
        return context

    def define_function(self, context: JobContext, data: bytes) -> Digest:
        """Take a pickled function in; nobody here unpickles it. Raise `TooManyFunctions`, having kept nothing."""
        digest = function_digest(data)
        if digest not in context.functions:
            self._local.own_function(context.submitter, context.job, digest, data)
            context.functions[digest] = data
        return digest

    def submit(self, context: JobContext, functions: list[Digest], payloads: list[bytes]) -> None:
        """Accept units; raise `TooMuchWaiting` beyond the bound."""
        waiting = self._waiting_bytes[context.submitter] + sum(map(len, payloads))
        if waiting > WAITING_BYTES_MAX:
            raise TooMuchWaiting(f"{waiting} bytes of arguments wait, {WAITING_BYTES_MAX} may: read results first")
        self._waiting_bytes[context.submitter] = waiting
        for start in range(0, len(payloads), TRANCHE_UNITS_MAX):
            stop = start + TRANCHE_UNITS_MAX
            self._submit_tranche(context, functions[start:stop], payloads[start:stop])
        self.on_submitted()

    def close_job(self, context: JobContext) -> None:
        """No more units will come."""
        self._handle(events.JobClosed(context.job))

    def cancel_units(self, context: JobContext, indices: list[int]) -> None:
        """These units are not wanted any more."""
        self._handle(events.UnitsCancelled(context.job, indices))

    def cancel_job(self, context: JobContext) -> None:
        """None of the job's units is wanted any more."""
        self._handle(events.UnitsCancelled(context.job, None))

    def pause(self, context: JobContext) -> None:
        """The listener does not read."""
        self._handle(events.DeliveryPaused(context.job))

    def resume(self, context: JobContext) -> None:
        """The listener reads again."""
        self._handle(events.DeliveryResumed(context.job))

    def job(self, job: JobId) -> JobContext | None:
        """A job of this node, running or kept."""
        return self._contexts.get(job)

    def attach(self, context: JobContext, listener: Listener) -> None:
        """Tell the listener all outcomes of a detached job: those that wait, and from now on those to come."""
        waiting = self.owner.outcomes(context.job)
        for start in range(0, len(waiting), TRANCHE_UNITS_MAX):
            listener.deliver(context.job, waiting[start : start + TRANCHE_UNITS_MAX])
        if context.finished is None:
            context.listener = listener
        else:
            listener.finished(context.job, *context.finished)

    def detach(self, context: JobContext) -> None:
        """The program is gone. A job that was not detached is of no use to anybody any more."""
        context.listener = None
        if context.finished is not None:
            return
        if context.detached:
            self.close_job(context)  # nobody can add units to it any more
        else:
            self.cancel_job(context)

    # --- executors --------------------------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """A session began; the node can be given work once `executor_changed` says so."""
        self._leases.link_up(link)

    def link_down(self, link: Link, reason: str) -> None:
        """The session ended: what it had not answered is lost."""
        if self._leases.link_down(link):
            self._handle(events.ExecutorLost(link.peer.node, reason))

    def revoked(self, node: NodeId) -> None:
        """A node has no place in the mesh any more: what it holds runs elsewhere, and what it said does not count."""
        self._handle(events.ExecutorRevoked(node))

    def executor_changed(self, view: events.ExecutorView) -> None:
        """A node can be given work, or what is known of it changed."""
        self._handle(events.ExecutorChanged(view))

    def gpus_looked_at(self, event: events.GpusLookedAt) -> None:
        """A look at a node's GPUs is over."""
        self._handle(event)

    def credit(self, node: NodeId, message: Credit) -> None:
        """A node tells its windows."""
        self._handle(events.CreditGranted(node, message.units, message.payload_bytes))

    def results(self, link: Link, batch: ResultBatch) -> None:
        """Check the receipt, then hand the results in; raise `BadSignature` if it does not cover them."""
        epoch, digests = check_results(link.peer, self._node, batch)
        self._handle(events.ResultsArrived(link.peer.node, batch.job, epoch, batch.results, digests))

    def own_results(self, job: JobId, epoch: int, results: list[AttemptResult]) -> None:
        """Results of this node's own executor: its receipt needs no check here."""
        self._handle(events.ResultsArrived(self._node, job, epoch, results, result_digests(results)))

    def attempts_ended(self, node: NodeId, message: AttemptsEnded) -> None:
        """Attempts ended without a result."""
        self._handle(events.AttemptsFailed(node, message.job, message.epoch, message.ends))

    # --- the machine ------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = self._seams.monotonic()
        while (expired := self._retention.pop_expired(now)) is not None:
            self._forget(expired)
        self._handle(events.Tick())

    def _submit_tranche(self, context: JobContext, functions: list[Digest], payloads: list[bytes]) -> None:
        sequence, first = len(context.tranches), context.units

        def make() -> Tranche:
            return Tranche(context.job, sequence, first, b"".join(unit_digests(functions, payloads)))

        context.tranches.put(sequence, first, list(map(len, payloads)), make)
        context.units += len(payloads)
        self._handle(events.UnitsSubmitted(context.job, sequence, first, functions, payloads))

    def _sign(self, tranche: Tranche) -> Signed:
        return self._seams.signer.sign(Domain.TRANCHE, encode_record(tranche))

    def _apply(self, event: events.Event) -> None:
        for effect in self.owner.handle(event, self._seams.monotonic()):
            match effect:
                case effects.Lease():
                    self._lease(effect)
                case effects.Deliver(job, outcomes):
                    self._deliver(self._contexts[job], outcomes)
                case effects.Journal(entries):
                    self._journal.append(entries)
                case effects.Wake(at):
                    self.timer.set(at)
                case effects.Recall():
                    self._recall(effect)
                case effects.JobFinished(job, state, reason):
                    self._finish(self._contexts[job], state, reason)
                case effects.Disagreement():
                    self._report(effect)
                case _:
                    assert_never(effect)

    def _lease(self, lease: effects.Lease) -> None:
        context = self._contexts[lease.job]
        if lease.node == self._node:
            self._local.own_lease(lease, context.tenant, context.timeout_ms)
        else:
            self._leases.lease(lease, context)

    def _recall(self, recall: effects.Recall) -> None:
        if recall.node == self._node:
            self._local.own_recall(recall)
        else:
            self._leases.recall(recall)

    def _deliver(self, context: JobContext, outcomes: list[Outcome]) -> None:
        self._waiting_bytes[context.submitter] -= context.tranches.ended(outcomes)
        if context.detached:
            self._retention.delivered(context, outcomes)
        if context.listener is not None:
            context.listener.deliver(context.job, outcomes)

    def _finish(self, context: JobContext, state: str, reason: str) -> None:
        context.finished = (state, reason)
        self._waiting_bytes[context.submitter] -= context.tranches.clear()
        if not self._waiting_bytes[context.submitter]:
            del self._waiting_bytes[context.submitter]
        self._leases.job_ended(context.job)
        self._local.own_job_ended(context.job)
        context.functions.clear()
        self._open_jobs[context.submitter] -= 1
        self._retention.ended(context, self._seams.monotonic())
        if context.listener is not None:
            context.listener.finished(context.job, state, reason)
            context.listener = None  # it has heard all: the next program may attach
        while (surplus := self._retention.pop_surplus()) is not None:
            self._forget(surplus)

    def _forget(self, context: JobContext) -> None:
        del self._contexts[context.job]
        self.reports.forget(context.job)
        self._handle(events.JobForgotten(context.job))

    def _report(self, disagreement: effects.Disagreement) -> None:
        log.debug("results_disagree", index=disagreement.index, votes=len(disagreement.votes))
        self.reports.add(disagreement)
