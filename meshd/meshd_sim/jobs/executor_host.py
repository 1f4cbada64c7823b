"""The shell of an executor in a simulated world: records checked, receipts made, workers simulated."""

import random
from collections import deque
from collections.abc import Callable
from typing import TypeAlias, assert_never

from meshd_node.core.executor import effects, events
from meshd_node.core.executor.events import LeasedWork
from meshd_node.core.executor.machine import Executor
from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import tenant_of
from meshd_protocol.errors import BadSignature
from meshd_protocol.framing import Message
from meshd_protocol.ids import Digest, JobId, NodeId, function_digest, job_id, unit_digests
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus
from meshd_protocol.messages.peer import (
    AttemptsEnded,
    Credit,
    FunctionData,
    JobOpen,
    LeaseGrant,
    Recall,
    ResultBatch,
    TrancheOpen,
)
from meshd_protocol.records import Manifest, Tranche, decode_record
from meshd_protocol.signing import Domain
from meshd_sim.jobs.habits import Habits
from meshd_sim.jobs.mischief import spoil
from meshd_sim.jobs.receipts import sign_results
from meshd_sim.jobs.watch import Watch
from meshd_sim.jobs.workers import Workforce
from meshd_sim.process import Process

Send: TypeAlias = Callable[[NodeId, Message], None]


class Session:
    """What one owner told in one session."""

    def __init__(self) -> None:
        self.manifests: dict[JobId, Manifest] = {}
        self.tranches: dict[tuple[JobId, int], Tranche] = {}
        self.functions: set[tuple[JobId, Digest]] = set()
        self.replayable: list[ResultBatch] = []  # what a cheat has to send again


class ExecutorHost:
    """One process's executor."""

    def __init__(
        self, process: Process, send: Send, executor: Executor, habits: Habits, rng: random.Random, watch: Watch
    ) -> None:
        self._process = process
        self._send = send
        self._executor = executor
        self._habits = habits
        self._rng = rng
        self._watch = watch
        self._workforce = Workforce(process, habits, rng, self._handle, watch)
        self._sessions: dict[NodeId, Session] = {}
        self._inbox: deque[events.Event] = deque()
        self._alarm = process.alarm(lambda: self._handle(events.Tick()))

    def link_up(self, node: NodeId) -> None:
        """A session with a node that may submit work began."""
        self._sessions[node] = Session()
        self._handle(events.OwnerUp(node))

    def link_down(self, node: NodeId) -> None:
        """The session ended."""
        if self._sessions.pop(node, None) is not None:
            self._handle(events.OwnerLost(node))

    def received(self, sender: NodeId, message: Message) -> None:
        """A message of an owner; raise `BadSignature` if it is not what its signatures cover."""
        session = self._sessions.get(sender)
        if session is None:
            return
        match message:
            case JobOpen(manifest):
                body = self._process.verify(sender, Domain.MANIFEST, manifest)
                session.manifests[job_id(body)] = decode_record(Manifest, body)
            case FunctionData(job, data):
                session.functions.add((job, function_digest(data)))
            case TrancheOpen(job, signed):
                tranche = decode_record(Tranche, self._process.verify(sender, Domain.TRANCHE, signed))
                session.tranches[job, tranche.sequence] = tranche
            case LeaseGrant():
                self._leased(sender, session, message)
            case Recall(job, epoch, indices):
                self._handle(events.Recalled(sender, job, epoch, indices))

    def drain(self, until: float) -> None:
        """Take nothing new."""
        self._handle(events.DrainBegan(until))

    def end(self) -> None:
        """The process is gone."""
        self._workforce.end_all()

    def _leased(self, owner: NodeId, session: Session, lease: LeaseGrant) -> None:
        if self._habits.silent:
            return
        manifest = session.manifests.get(lease.job)
        tranche = session.tranches.get((lease.job, lease.tranche))
        known = all((lease.job, digest) in session.functions for digest in lease.functions)
        if manifest is None or tranche is None or not known:
            self._hand_back(owner, lease)
            return
        work = [
            LeasedWork(unit.index, unit.attempt, lease.functions[unit.function], unit.payload) for unit in lease.units
        ]
        digests = unit_digests([each.function for each in work], [each.payload for each in work])
        if digests != tranche.digests_of([each.unit for each in work]):
            raise BadSignature("a unit is not what the submitter signed for")
        tenant = tenant_of(Submitter(manifest.submitter, manifest.uid), manifest.needs)
        timeout_ms = manifest.policy.timeout_ms
        self._handle(events.LeaseArrived(owner, lease.job, lease.epoch, tenant, timeout_ms, work))

    def _hand_back(self, owner: NodeId, lease: LeaseGrant) -> None:
        ends = [
            AttemptResult(unit.index, unit.attempt, AttemptStatus.HANDED_BACK, b"", 0, "not known here")
            for unit in lease.units
        ]
        self._send(owner, AttemptsEnded(lease.job, lease.epoch, ends))

    def _handle(self, event: events.Event) -> None:
        """One event at a time: what workers and the machine do to each other waits its turn."""
        self._inbox.append(event)
        if len(self._inbox) > 1:
            return
        while self._inbox:
            event = self._inbox[0]
            done = self._executor.handle(event, self._process.now)
            self._watch.executor_stepped(self._process.node, event, done, self._process.now)
            for effect in done:
                self._perform(effect)
            self._inbox.popleft()

    def _perform(self, effect: effects.Effect) -> None:
        match effect:
            case effects.RunOn():
                self._workforce.run(effect)
            case effects.ReportResults(owner, job, epoch, results):
                self._report(owner, sign_results(self._process, owner, job, epoch, results))
            case effects.ReportEnds(owner, job, epoch, ends):
                self._send(owner, AttemptsEnded(job, epoch, ends))
            case effects.GrantCredit(owner, units, payload_bytes):
                self._send(owner, Credit(units, payload_bytes))
            case effects.Wake(at):
                self._alarm.set(at)
            case effects.PrepareEnvironment(environment):
                self._handle(events.EnvironmentReady(environment))
            case effects.StartWorker(worker):
                self._workforce.start(worker)
            case effects.EndWorker(worker):
                self._workforce.end(worker)
            case effects.Drained():
                pass  # the process ends in its own time
            case _:
                assert_never(effect)

    def _report(self, owner: NodeId, batch: ResultBatch) -> None:
        self._send(owner, batch)
        session = self._sessions.get(owner)
        if session is not None and self._habits.cheats and self._rng.random() < self._habits.cheats:
            self._send(owner, spoil(self._process, owner, batch, session.replayable, self._rng))
            session.replayable.append(batch)
