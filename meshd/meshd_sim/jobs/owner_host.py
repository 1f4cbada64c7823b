"""The shell of an owner in a simulated world, and the users who submit to it."""

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

from meshd_node.core.owner import effects, events
from meshd_node.core.owner.job import FIRST_EPOCH
from meshd_node.core.owner.machine import Owner
from meshd_node.core.submitter import Submitter
from meshd_protocol.framing import Message
from meshd_protocol.ids import NONCE_BYTES, JobId, MeshId, NodeId, job_id, unit_digests
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
from meshd_sim.jobs.executor_host import Send
from meshd_sim.jobs.plans import JobPlan, Submission
from meshd_sim.jobs.receipts import check_results
from meshd_sim.jobs.rules.require import require
from meshd_sim.jobs.tasks import FUNCTION, FUNCTION_DIGEST, payload_of
from meshd_sim.jobs.watch import Watch
from meshd_sim.process import Process


@dataclass(slots=True)
class OpenJob:
    """A job and what is signed of it."""

    plan: JobPlan
    manifest: Signed
    tranches: list[Signed] = field(default_factory=list)
    units: int = 0


@dataclass(slots=True)
class Sent:
    """What one executor was told in this session."""

    jobs: set[JobId] = field(default_factory=set)
    tranches: set[tuple[JobId, int]] = field(default_factory=set)


class OwnerHost:
    """One process's owner."""

    def __init__(self, process: Process, send: Send, mesh: MeshId, owner: Owner, watch: Watch) -> None:
        self._process = process
        self._send = send
        self._mesh = mesh
        self._owner = owner
        self._watch = watch
        self._jobs: dict[JobId, OpenJob] = {}
        self._sessions: dict[NodeId, Sent] = {}
        self._inbox: deque[events.Event] = deque()
        self._alarm = process.alarm(lambda: self._handle(events.Tick()))

    # --- nodes ------------------------------------------------------------------------------------------------

    def link_up(self, node: NodeId) -> None:
        """A session began."""
        self._sessions[node] = Sent()

    def link_down(self, node: NodeId, reason: str) -> None:
        """The session ended."""
        if self._sessions.pop(node, None) is not None:
            self._handle(events.ExecutorLost(node, reason))

    def revoked(self, node: NodeId) -> None:
        """The certificates of a node have ended."""
        self._handle(events.ExecutorRevoked(node))

    def seen(self, view: events.ExecutorView) -> None:
        """What is known of a node; of no use without a session with it."""
        if view.node in self._sessions:
            self._handle(events.ExecutorChanged(view))

    def received(self, sender: NodeId, message: Message) -> None:
        """A message of an executor; raise `BadSignature` if its receipt does not cover its results."""
        if sender not in self._sessions:
            return
        match message:
            case Credit(units, payload_bytes):
                self._handle(events.CreditGranted(sender, units, payload_bytes))
            case ResultBatch(job, _, results):
                epoch, digests = check_results(self._process, sender, message)
                self._handle(events.ResultsArrived(sender, job, epoch, results, digests))
            case AttemptsEnded(job, epoch, ends):
                self._handle(events.AttemptsFailed(sender, job, epoch, ends))

    # --- users ------------------------------------------------------------------------------------------------

    def begin(self, plan: JobPlan) -> None:
        """A user opens a job and does with it, in time, what was planned."""
        body = encode_record(self._manifest(plan))
        job = job_id(body)
        self._jobs[job] = OpenJob(plan, self._process.sign(Domain.MANIFEST, body))
        self._watch.job_opened(self._process.node, job, plan)
        submitter = Submitter(self._process.node, plan.uid)
        self._handle(events.JobAccepted(job, f"job {plan.number}", submitter, plan.policy, plan.needs, plan.detached))
        after = self._process.after
        for submission in plan.submissions:
            after(submission.after_s, partial(self._submit, job, submission))
        after(plan.closes_after_s, partial(self._handle, events.JobClosed(job)))
        for cancellation in plan.cancellations:
            event = events.UnitsCancelled(job, cancellation.indices)
            after(cancellation.after_s, partial(self._handle, event))
        if plan.pause is not None:
            after(plan.pause[0], partial(self._handle, events.DeliveryPaused(job)))
            after(plan.pause[1], partial(self._handle, events.DeliveryResumed(job)))

    def check_nothing_is_left(self) -> None:
        """Drop every job, as retention does; then no table may hold anything of them."""
        for job in list(self._jobs):
            self._handle(events.JobForgotten(job))
        held = sum(each.held_units + each.held_bytes for each in self._owner.executors())
        require(not self._owner.jobs() and not held, 13, "something is left of jobs that were forgotten")

    def _manifest(self, plan: JobPlan) -> Manifest:
        created_ms = int(plan.opens_at * 1_000)
        nonce = plan.number.to_bytes(NONCE_BYTES, "big")
        return Manifest(
            self._mesh, self._process.node, plan.uid, nonce, created_ms, f"job {plan.number}", plan.policy, plan.needs
        )

    def _submit(self, job: JobId, submission: Submission) -> None:
        known = self._jobs[job]
        functions = [FUNCTION_DIGEST] * len(submission.tasks)
        payloads = [payload_of(task) for task in submission.tasks]
        sequence, first = len(known.tranches), known.units
        tranche = Tranche(job, sequence, first, b"".join(unit_digests(functions, payloads)))
        known.tranches.append(self._process.sign(Domain.TRANCHE, encode_record(tranche)))
        known.units += len(payloads)
        self._handle(events.UnitsSubmitted(job, sequence, first, functions, payloads))

    # --- the machine ------------------------------------------------------------------------------------------

    def _handle(self, event: events.Event) -> None:
        self._inbox.append(event)
        if len(self._inbox) > 1:
            return
        while self._inbox:
            event = self._inbox[0]
            done = self._owner.handle(event, self._process.now)
            self._watch.owner_stepped(self._process.node, event, done, self._process.now)
            for effect in done:
                self._perform(effect)
            self._inbox.popleft()

    def _perform(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Lease():
                self._lease(effect)
            case effects.Recall(node, job, epoch, indices):
                self._send(node, Recall(job, epoch, indices))
            case effects.JobFinished(job):
                self._finish(job)
            case effects.Wake(at):
                self._alarm.set(at)
            case effects.Deliver() | effects.Disagreement() | effects.Journal():
                pass  # for users and disks; whoever watches has seen them
            case _:
                assert_never(effect)

    def _lease(self, lease: effects.Lease) -> None:
        sent = self._sessions.get(lease.node)
        if sent is None:
            return
        job = self._jobs[lease.job]
        if lease.job not in sent.jobs:
            sent.jobs.add(lease.job)
            self._send(lease.node, JobOpen(job.manifest))
            self._send(lease.node, FunctionData(lease.job, FUNCTION))
        if (lease.job, lease.tranche) not in sent.tranches:
            sent.tranches.add((lease.job, lease.tranche))
            self._send(lease.node, TrancheOpen(lease.job, job.tranches[lease.tranche]))
        units = [
            LeasedUnit(index, attempt, 0, payload)
            for index, attempt, payload in zip(lease.indices, lease.attempts, lease.payloads, strict=True)
        ]
        grant = LeaseGrant(lease.job, lease.epoch, lease.tranche, lease.duration_ms, [FUNCTION_DIGEST], units)
        self._send(lease.node, grant)

    def _finish(self, job: JobId) -> None:
        for node, sent in self._sessions.items():
            if job in sent.jobs:
                sent.jobs.remove(job)
                self._send(node, Recall(job, FIRST_EPOCH, []))
