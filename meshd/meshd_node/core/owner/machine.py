"""The owner's machine: events of jobs and executors in, leases and deliveries out. Spec: 07-jobs.md."""

import random
from collections import Counter
from typing import assert_never

from meshd_node.core.owner.config import OwnerConfig
from meshd_node.core.owner.demand import Demand, demands_of
from meshd_node.core.owner.dispatch import Dispatch
from meshd_node.core.owner.effects import Effect, JobFinished, Wake
from meshd_node.core.owner.endings import Endings
from meshd_node.core.owner.events import (
    AttemptsFailed,
    CreditGranted,
    DeliveryPaused,
    DeliveryResumed,
    Event,
    ExecutorChanged,
    ExecutorLost,
    ExecutorRevoked,
    GpusLookedAt,
    JobAccepted,
    JobClosed,
    JobForgotten,
    ResultsArrived,
    Tick,
    UnitsCancelled,
    UnitsSubmitted,
)
from meshd_node.core.owner.executors import Executor, Executors
from meshd_node.core.owner.explain import Explain
from meshd_node.core.owner.job import Job
from meshd_node.core.owner.journal import ClosedEntry, FinishedEntry, JobEntry, TrancheEntry
from meshd_node.core.owner.reasons import short
from meshd_node.core.owner.summaries import ExecutorSummary, JobSummary, summary_of_executor, summary_of_job
from meshd_node.core.owner.timers import Timers
from meshd_node.core.owner.turn import Turn
from meshd_node.core.owner.unit import Unit
from meshd_protocol.ids import JobId, NodeId
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.local import Outcome
from meshd_protocol.records import Offer


class Owner:
    """Drives the jobs of one node's users. Enter it with batches; read listings between events."""

    def __init__(self, node: NodeId, rng: random.Random, config: OwnerConfig) -> None:
        self.node = node
        self._config = config
        self._jobs: dict[bytes, Job] = {}
        self._executors = Executors()
        self._timers = Timers()
        self._endings = Endings(self._executors, config)
        self._dispatch = Dispatch(self._executors, self._timers, rng, config)
        self._explain = Explain(self._executors, self._dispatch)
        self._strays: Counter[str] = Counter()

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Apply one event; return what the shell must do, in order."""
        turn = Turn(now)
        version = self._executors.version
        self._apply(event, turn)
        if version != self._executors.version:
            for job in self._jobs.values():
                self._endings.end_babel(job, turn)
        turn.settle()
        self._finish_jobs(turn)
        self._dispatch.run(turn)
        effects = turn.effects()
        wake = self._timers.wish()
        if wake is not None:
            effects.append(Wake(wake))
        return effects

    def jobs(self) -> list[JobSummary]:
        """Every job that was not forgotten, oldest first."""
        return [summary_of_job(job) for job in self._jobs.values()]

    def executors(self) -> list[ExecutorSummary]:
        """Every node with a session."""
        return [summary_of_executor(executor) for executor in self._executors.all()]

    def offers(self) -> dict[NodeId, Offer]:
        """What nodes with a session offer that take work."""
        every = self._executors.all()
        return {each.node: each.offer for each in every if each.accepts and each.offer is not None}

    def wants_gpus(self) -> bool:
        """Whether some job that has not ended needs a GPU."""
        return any(job.ended is None and job.terms.needs.gpus for job in self._jobs.values())

    def busy(self) -> bool:
        """Whether any unit has not ended."""
        return any(job.units for job in self._jobs.values())

    def waits_for(self, node: NodeId) -> bool:
        """Whether a node has units that it has not answered."""
        executor = self._executors.get(node)
        return executor is not None and executor.held_units > 0

    def demands(self, now: float) -> list[Demand]:
        """What units that wait could use beyond the nodes with a session."""
        return demands_of(self._jobs.values(), self._dispatch, now)

    def outcomes(self, job: JobId) -> list[Outcome]:
        """How the units of a detached job ended so far, in order of their ends; of others nothing is kept."""
        known = self._jobs.get(job)
        return [] if known is None else list(known.outcomes)

    def why(self, job: JobId, index: int | None, now: float) -> list[str]:
        """Why a unit (None: the job) waits, or on whose word it is believed."""
        known = self._jobs.get(job)
        if known is None:
            return ["this node does not know that job"]
        return self._explain.job(known, now) if index is None else self._explain.unit(known, index, now)

    def strays(self) -> dict[str, int]:
        """How many messages were of no effect, by what was wrong with them."""
        return dict(self._strays)

    def _apply(self, event: Event, turn: Turn) -> None:
        match event:
            case ResultsArrived():
                self._results(event, turn)
            case UnitsSubmitted():
                self._submit(event, turn)
            case CreditGranted(node, units, payload_bytes):
                self._executors.grant(node, units, payload_bytes)
            case AttemptsFailed():
                self._attempts_failed(event, turn)
            case JobAccepted():
                self._accept_job(event, turn)
            case JobClosed(job_id):
                self._close(job_id, turn)
            case UnitsCancelled(job_id, indices):
                self._cancel(job_id, indices, turn)
            case ExecutorChanged(view):
                self._executors.show(view)
            case ExecutorLost(node, reason):
                self._lose(node, reason, turn)
            case ExecutorRevoked(node):
                self._revoke(node, turn)
            case GpusLookedAt(node, fault):
                self._executors.doubted(node, fault)
            case DeliveryPaused(job_id):
                self._pause(job_id, paused=True)
            case DeliveryResumed(job_id):
                self._pause(job_id, paused=False)
            case JobForgotten(job_id):
                self._forget(job_id, turn)
            case Tick():
                self._tick(turn)
            case _:
                assert_never(event)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def _accept_job(self, event: JobAccepted, turn: Turn) -> None:
        assert event.job not in self._jobs, "a job is accepted once: its id has a nonce"
        self._jobs[event.job] = Job(event, self._config, turn.now)
        turn.entries.append(JobEntry(event.job))

    def _submit(self, event: UnitsSubmitted, turn: Turn) -> None:
        job = self._jobs.get(event.job)
        if job is None or job.closed:
            self._strays["units for a job that is closed"] += len(event.payloads)
            return
        assert event.first == job.submitted, "units are numbered in the order of their submission"
        count = len(event.payloads)
        indices = range(event.first, event.first + count)
        units = [
            Unit(index, event.tranche, function, payload)
            for index, function, payload in zip(indices, event.functions, event.payloads, strict=True)
        ]
        job.units.update(zip(indices, units, strict=True))
        job.fresh.extend(units)
        job.submitted += count
        turn.entries.append(TrancheEntry(event.job, event.tranche, event.first, count))
        self._dispatch.line_up(job)

    def _close(self, job_id: JobId, turn: Turn) -> None:
        job = self._jobs.get(job_id)
        if job is not None and not job.closed:
            job.closed = True
            turn.entries.append(ClosedEntry(job_id))
            turn.touched[job_id] = job

    def _cancel(self, job_id: JobId, indices: list[int] | None, turn: Turn) -> None:
        job = self._jobs.get(job_id)
        if job is None or job.ended is not None:
            return
        if indices is None:
            self._cancel_all(job, turn)
            return
        for index in indices:
            unit = job.units.get(index)
            if unit is not None:
                self._endings.cancel(job, unit, turn)

    def _cancel_all(self, job: Job, turn: Turn) -> None:
        holders = [executor.node for executor in self._executors.all() if job.id in executor.held]
        for unit in list(job.units.values()):
            self._endings.cancel(job, unit, turn)
        for node in holders:
            turn.recall_all(node, job)
        job.unwanted = True
        self._close(job.id, turn)

    def _pause(self, job_id: JobId, *, paused: bool) -> None:
        job = self._jobs.get(job_id)
        if job is not None:
            job.paused = paused
            self._dispatch.line_up(job)

    def _forget(self, job_id: JobId, turn: Turn) -> None:
        job = self._jobs.pop(job_id, None)
        if job is None:
            return
        if job.ended is None:
            self._cancel_all(job, turn)
        self._dispatch.forget(job)

    def _finish_jobs(self, turn: Turn) -> None:
        for job in turn.touched.values():
            if job.closed and not job.units and job.ended is None:
                job.ended = turn.now
                job.state = "cancelled" if job.unwanted else "failed" if job.failed else "done"
                turn.entries.append(FinishedEntry(job.id, job.state))
                turn.finish(JobFinished(job.id, job.state, job.first_failure))

    # --- executors ----------------------------------------------------------------------------------------------------

    def _results(self, event: ResultsArrived, turn: Turn) -> None:
        found = self._answering(event)
        if found is not None:
            strays = self._endings.results(*found, event, turn)
            self._dispatch.line_up(found[0])
            if strays:
                self._strays["answers to nothing that was asked"] += strays

    def _attempts_failed(self, event: AttemptsFailed, turn: Turn) -> None:
        found = self._answering(event)
        if found is None:
            return
        job, executor = found
        reasons: dict[AttemptStatus, str] = {}
        for end in event.ends:
            grant = executor.held.get(job.id, {}).get(end.index)
            if grant is None or grant.attempt != end.attempt or end.status <= AttemptStatus.RAISED:
                self._strays["answers to nothing that was asked"] += 1
                continue
            reason = reasons[end.status] = end.detail or end.status.name.lower().replace("_", " ")
            self._endings.attempt_failed(job, job.units[end.index], executor, end.status, reason, turn)
        self._leave_alone(job, executor, reasons, turn.now)
        self._dispatch.line_up(job)

    def _leave_alone(self, job: Job, executor: Executor, reasons: dict[AttemptStatus, str], now: float) -> None:
        """Ask a node that did not want a job again later, and later each time."""
        until: float | None = None
        if refusal := reasons.get(AttemptStatus.REFUSED):
            until = job.backoff.refused(executor.node, refusal, now)
        elif hand_back := reasons.get(AttemptStatus.HANDED_BACK) or reasons.get(AttemptStatus.INTERRUPTED):
            until = job.backoff.handed_back(executor.node, hand_back, now)
        if until is not None:
            job.pool = None
            self._timers.set(until, job)

    def _answering(self, event: ResultsArrived | AttemptsFailed) -> tuple[Job, Executor] | None:
        """Whose answer to what this is; None if we wait for none."""
        job = self._jobs.get(event.job)
        executor = self._executors.get(event.node)
        if job is None or executor is None:
            self._strays["answers for an unknown job or from an unknown node"] += 1
        elif event.epoch != job.epoch:
            self._strays["answers of another epoch"] += 1
        else:
            return job, executor
        return None

    def _lose(self, node: NodeId, reason: str, turn: Turn) -> None:
        executor = self._executors.lose(node)
        if executor is None:
            return
        jobs = [self._jobs[job_id] for job_id in executor.held]
        self._endings.node_lost(executor, self._jobs, f"lost {short(node)}: {reason}", turn)
        for job in jobs:
            self._dispatch.line_up(job)

    def _revoke(self, node: NodeId, turn: Turn) -> None:
        executor = self._executors.lose(node)
        if executor is not None:
            self._endings.node_revoked(executor, self._jobs, f"{short(node)} was revoked", turn)
        for job in self._jobs.values():
            self._endings.disown(node, job)
            self._dispatch.line_up(job)

    def _tick(self, turn: Turn) -> None:
        self._timers.rang()
        for due in self._timers.pop_due(turn.now):
            if isinstance(due, Job):
                due.pool = None
                self._dispatch.line_up(due)
            else:
                self._check(due, turn)

    def _check(self, executor: Executor, turn: Turn) -> None:
        """Look at a node's leases whose time has come."""
        if self._executors.get(executor.node) is not executor or executor.check_at is None:
            return
        if turn.now < executor.check_at:
            return  # an older wish of the same node
        jobs = [self._jobs[job_id] for job_id in executor.held]
        executor.check_at = self._endings.overdue(executor, self._jobs, turn)
        if executor.check_at is not None:
            self._timers.set(executor.check_at, executor)
        for job in jobs:
            self._dispatch.line_up(job)
