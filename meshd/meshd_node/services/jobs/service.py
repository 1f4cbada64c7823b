"""The service around the owner's machine. Spec: 07-jobs.md.

It is entered synchronously (decision 0001): by the local socket with submissions, by links with results, by its timer.
"""

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Protocol, assert_never

from meshd_node.core.owner import effects, events
from meshd_node.core.owner.job import FIRST_EPOCH
from meshd_node.core.owner.machine import Owner
from meshd_node.core.submitter import Submitter
from meshd_node.log import log
from meshd_node.net.link import Link
from meshd_node.seams import Seams
from meshd_node.services.jobs.context import JobContext, Listener, TrancheShelf
from meshd_node.services.jobs.journal import JournalStore
from meshd_node.services.jobs.reports import Reports
from meshd_node.services.jobs.sent import SentJob, SentLog
from meshd_node.services.one_at_a_time import OneAtATime
from meshd_node.services.outflow import Outflow
from meshd_node.services.receipts import check_results, result_digests
from meshd_node.services.timer import Timer
from meshd_protocol.errors import RemoteProtocolError
from meshd_protocol.ids import NONCE_BYTES, Digest, JobId, MeshId, NodeId, function_digest, job_id, unit_digests
from meshd_protocol.limits import CONTROL_BYTES_MAX, TRANCHE_UNITS_MAX
from meshd_protocol.messages.attempts import AttemptResult
from meshd_protocol.messages.local import OpenJob, Outcome
from meshd_protocol.messages.peer import (
    AttemptsEnded,
    Credit,
    FunctionData,
    JobOpen,
    LeasedUnit,
    LeaseGrant,
    Recall,
    ResultBatch,
    TrancheOpen,
)
from meshd_protocol.records import Manifest, Tranche, encode_record
from meshd_protocol.signing import Domain, Signed

# What one submitter may have waiting. A program blocks long before (at half of it); beyond, it breaks the protocol.
WAITING_BYTES_MAX: Final = 1 << 30
# Jobs that have not ended, of one user and of all: about 8 KB each.
OPEN_JOBS_OF_USER_MAX: Final = 1_024
OPEN_JOBS_MAX: Final = 8_192
# Ended jobs are listed, and detached ones keep their results, until one of these is reached.
ENDED_JOBS_KEPT: Final = 1_000
RETAINED_BYTES_MAX: Final = 1 << 30
RETENTION_S: Final = 3_600.0
# Arguments and functions above this travel on the bulk connection, well below where a link would do so by itself.
_INLINE_BYTES_MAX: Final = CONTROL_BYTES_MAX - 16 * 1024


class LocalExecutor(Protocol):
    """This node's own executor, reached without a wire."""

    def own_function(self, submitter: Submitter, job: JobId, digest: Digest, data: bytes) -> None:
        """A function of an own job; raise `TooManyFunctions` if that user's fill their share."""
        ...

    def own_lease(self, lease: effects.Lease, submitter: Submitter, timeout_ms: int) -> None:
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
        self._links: dict[NodeId, Link] = {}
        self._sent: dict[NodeId, SentLog] = {}
        self._contexts: dict[JobId, JobContext] = {}
        self._open_jobs: Counter[Submitter] = Counter()
        self._ended: dict[Submitter, deque[tuple[float, JobContext]]] = {}
        self._waiting_bytes: Counter[Submitter] = Counter()
        self._retained_bytes = 0
        self._handle = OneAtATime(self._apply)
        self.timer = Timer(self._tick, outflow.flush)

    # --- local users ------------------------------------------------------------------------------------------

    def open_job(self, uid: int, request: OpenJob, listener: Listener) -> JobContext:
        """Sign a manifest and accept the job; raise `TooMuchWaiting` if too many are open."""
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
            submitter=submitter,
            detached=request.detached,
            timeout_ms=request.policy.timeout_ms,
            listener=listener,
            tranches=TrancheShelf(self._sign),
        )
        self._contexts[context.job] = context
        self._handle(
            events.JobAccepted(
                context.job, request.name, submitter, request.policy, request.needs, detached=request.detached
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
        self._links[link.peer.node] = link
        self._sent[link.peer.node] = SentLog()

    def link_down(self, link: Link, reason: str) -> None:
        """The session ended: what it had not answered is lost."""
        node = link.peer.node
        if self._links.get(node) is link:
            del self._links[node], self._sent[node]
            self._handle(events.ExecutorLost(node, reason))

    def revoked(self, node: NodeId) -> None:
        """A node has no place in the mesh any more: what it holds runs elsewhere, and what it said does not count."""
        self._handle(events.ExecutorRevoked(node))

    def executor_changed(self, view: events.ExecutorView) -> None:
        """A node can be given work, or what is known of it changed."""
        self._handle(events.ExecutorChanged(view))

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
        for submitter, ended in list(self._ended.items()):
            while ended and ended[0][0] + RETENTION_S <= now:
                self._forget_oldest(submitter)
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
            self._local.own_lease(lease, context.submitter, context.timeout_ms)
            return
        link = self._links.get(lease.node)
        if link is None:
            return  # the session ended in this very moment; `ExecutorLost` is on its way
        functions = list(dict.fromkeys(lease.functions))
        bulk = sum(map(len, lease.payloads)) > _INLINE_BYTES_MAX
        self._send_what_it_lacks(link, context, lease.tranche, functions, bulk=bulk)
        numbers = {digest: number for number, digest in enumerate(functions)}
        units = [
            LeasedUnit(index, attempt, numbers[function], payload)
            for index, attempt, function, payload in zip(
                lease.indices, lease.attempts, lease.functions, lease.payloads, strict=True
            )
        ]
        link.send(LeaseGrant(lease.job, lease.epoch, lease.tranche, lease.duration_ms, functions, units), bulk=bulk)

    def _send_what_it_lacks(
        self, link: Link, context: JobContext, tranche: int, functions: list[Digest], *, bulk: bool
    ) -> None:
        log_of_node = self._sent[link.peer.node]
        sent = log_of_node.job(context.job)
        if sent is None:
            sent = log_of_node.open(context.job)
            link.send(JobOpen(context.manifest))
        for digest in functions:
            if digest not in sent.functions:
                sent.functions.add(digest)
                self._send_function(link, context, sent, context.functions[digest])
        if (context.job, tranche) not in log_of_node.tranches:
            log_of_node.tranches.put(context.job, tranche, context.tranches.size(tranche), None)
            link.send(TrancheOpen(context.job, context.tranches[tranche]))
        if bulk:
            self._open_on_bulk(link, context, sent)

    def _send_function(self, link: Link, context: JobContext, sent: SentJob, data: bytes) -> None:
        bulk = len(data) > _INLINE_BYTES_MAX
        if bulk:
            self._open_on_bulk(link, context, sent)
        link.send(FunctionData(context.job, data), bulk=bulk)

    def _open_on_bulk(self, link: Link, context: JobContext, sent: SentJob) -> None:
        # The lanes are two TCP connections: what is sent on one may overtake the manifest on the other.
        if not sent.on_bulk:
            sent.on_bulk = True
            link.send(JobOpen(context.manifest), bulk=True)

    def _recall(self, recall: effects.Recall) -> None:
        if recall.node == self._node:
            self._local.own_recall(recall)
        elif link := self._links.get(recall.node):
            link.send(Recall(recall.job, recall.epoch, recall.indices))

    def _deliver(self, context: JobContext, outcomes: list[Outcome]) -> None:
        self._waiting_bytes[context.submitter] -= context.tranches.ended(outcomes)
        if context.detached:
            size = sum(len(outcome.value) for outcome in outcomes)
            context.retained_bytes += size
            self._retained_bytes += size
        if context.listener is not None:
            context.listener.deliver(context.job, outcomes)

    def _finish(self, context: JobContext, state: str, reason: str) -> None:
        context.finished = (state, reason)
        self._waiting_bytes[context.submitter] -= context.tranches.clear()
        if not self._waiting_bytes[context.submitter]:
            del self._waiting_bytes[context.submitter]
        for node, sent in self._sent.items():
            if sent.forget(context.job):
                self._links[node].send(Recall(context.job, FIRST_EPOCH, []))
        self._local.own_job_ended(context.job)
        context.functions.clear()
        self._open_jobs[context.submitter] -= 1
        self._ended.setdefault(context.submitter, deque()).append((self._seams.monotonic(), context))
        if context.listener is not None:
            context.listener.finished(context.job, state, reason)
            context.listener = None  # it has heard all: the next program may attach
        while sum(map(len, self._ended.values())) > ENDED_JOBS_KEPT:
            self._forget_oldest(max(self._ended, key=lambda submitter: len(self._ended[submitter])))
        while self._retained_bytes > RETAINED_BYTES_MAX and self._ended:
            self._forget_oldest(max(self._ended, key=self._retained_of))

    def _retained_of(self, submitter: Submitter) -> int:
        return sum(context.retained_bytes for _, context in self._ended[submitter])

    def _forget_oldest(self, submitter: Submitter) -> None:
        """Forget a user's oldest ended job. Whoever has most gives way: nobody can push out another's results."""
        ended = self._ended[submitter]
        job = ended.popleft()[1].job
        if not ended:
            del self._ended[submitter]
        self._retained_bytes -= self._contexts.pop(job).retained_bytes
        self.reports.forget(job)
        self._handle(events.JobForgotten(job))

    def _report(self, disagreement: effects.Disagreement) -> None:
        log.debug("results_disagree", index=disagreement.index, votes=len(disagreement.votes))
        self.reports.add(disagreement)
