"""What an owner has done so far, kept by a witness from events and effects alone: its books are its own."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from meshd_node.core.owner import effects, events
from meshd_node.core.owner.job import FIRST_EPOCH
from meshd_node.core.owner.journal import Entry, FailureEntry, VerdictEntry
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.messages.attempts import RESULTS, AttemptResult, AttemptStatus
from meshd_protocol.messages.local import Outcome
from meshd_sim.jobs.plans import JobPlan
from meshd_sim.jobs.tasks import Task

# Whose word it is: a trusted node's own, or its operator's.
Voter: TypeAlias = NodeId | str


@dataclass(frozen=True, slots=True)
class Out:
    """An attempt that a node was given and has neither answered nor been told to forget."""

    node: NodeId
    voter: Voter
    attempt: int
    size: int


@dataclass(frozen=True, slots=True)
class Vote:
    """A result that came, under a valid receipt, for an attempt that was out."""

    node: NodeId
    voter: Voter
    trusted: bool
    digest: Digest


@dataclass(slots=True)
class UnitBook:
    """One unit."""

    task: Task
    attempts: int = 0
    out: dict[NodeId, Out] = field(default_factory=dict)
    votes: list[Vote] = field(default_factory=list)
    charges: list[AttemptStatus] = field(default_factory=list)  # crashed or timed out
    returned: int = 0  # attempts that ended without being charged
    outcome: Outcome | None = None
    ended_at: float = float("inf")

    def camps(self) -> dict[Digest, set[Voter]]:
        """Who says what."""
        camps: dict[Digest, set[Voter]] = {}
        for vote in self.votes:
            camps.setdefault(vote.digest, set()).add(vote.voter)
        return camps

    def agreed(self) -> int:
        """How many voters the largest camp has."""
        return max(map(len, self.camps().values()), default=0)


@dataclass(slots=True)
class JobBook:
    """One job; `units` by index."""

    plan: JobPlan
    units: list[UnitBook] = field(default_factory=list)
    tranches: int = 0
    closed: bool = False
    paused: bool = False
    state: str = ""
    ended_at: float = float("inf")


@dataclass(frozen=True, slots=True)
class Window:
    """What a node takes at a time."""

    units: int
    payload_bytes: int


class OwnerBook:
    """One owner in one process. `journal` is what it wrote down in the present step."""

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.jobs: dict[JobId, JobBook] = {}
        self.views: dict[NodeId, events.ExecutorView] = {}
        self.windows: dict[NodeId, Window] = {}
        self.revoked: set[NodeId] = set()
        self.held: dict[NodeId, dict[tuple[JobId, int], Out]] = {}
        self.journal: list[Entry] = []
        self.event: events.Event = events.Tick()

    def written(self, job: JobId) -> set[int]:
        """The units whose verdict or cancellation was written down in this step."""
        return {
            index
            for entry in self.journal
            if isinstance(entry, VerdictEntry) or (isinstance(entry, FailureEntry) and entry.cancelled)
            if entry.job == job
            for index in entry.indices
        }

    def open_jobs(self) -> Iterator[JobBook]:
        """The jobs that have not ended."""
        return (job for job in self.jobs.values() if not job.state)

    # --- events -----------------------------------------------------------------------------------------------

    def note_event(self, event: events.Event, now: float) -> None:
        """Something happened to the owner."""
        self.journal, self.event = [], event
        match event:
            case events.UnitsSubmitted(job):
                self._submitted(self.jobs[job], len(event.payloads))
            case events.JobClosed(job) | events.UnitsCancelled(job, None):
                self.jobs[job].closed = True
            case events.DeliveryPaused(job):
                self.jobs[job].paused = True
            case events.DeliveryResumed(job):
                self.jobs[job].paused = False
            case events.ExecutorChanged(view):
                self.views[view.node] = view
            case events.CreditGranted(node, units, payload_bytes):
                self.windows[node] = Window(units, payload_bytes)
            case events.ExecutorLost(node):
                self._lost(node)
            case events.ExecutorRevoked(node):
                self._silenced(node)
            case events.ResultsArrived():
                self._answered(event)
            case events.AttemptsFailed():
                self._failed(event)
            case _:
                pass

    def _submitted(self, job: JobBook, count: int) -> None:
        if job.closed:
            return
        tasks = job.plan.tasks[len(job.units) : len(job.units) + count]
        job.units += map(UnitBook, tasks)
        job.tranches += 1

    def _lost(self, node: NodeId) -> None:
        for job, index in list(self.held.get(node, ())):
            self._take(node, job, index).charges.append(AttemptStatus.CRASHED)
        self.views.pop(node, None)
        self.windows.pop(node, None)

    def _silenced(self, node: NodeId) -> None:
        """A revoked node has no voice in what is not decided. That it had a unit is no fault of the unit's."""
        for job_id, index in list(self.held.get(node, ())):
            unit = self._take(node, job_id, index)
            if self.jobs[job_id].plan.policy.pure:
                unit.returned += 1
            else:
                unit.charges.append(AttemptStatus.CRASHED)
        self.views.pop(node, None)
        self.windows.pop(node, None)
        for job in self.jobs.values():
            for unit in job.units:
                if unit.outcome is None:
                    unit.votes = [vote for vote in unit.votes if vote.node != node]

    def _answered(self, event: events.ResultsArrived) -> None:
        view = self.views.get(event.node)
        for result, digest in zip(event.results, event.digests, strict=True):
            out = self._out(event, result)
            if out is not None and view is not None and result.status in RESULTS:
                unit = self._take(event.node, event.job, result.index)
                unit.votes.append(Vote(event.node, out.voter, view.trusted, digest))

    def _failed(self, event: events.AttemptsFailed) -> None:
        for end in event.ends:
            if self._out(event, end) is None or end.status in RESULTS:
                continue
            unit = self._take(event.node, event.job, end.index)
            if end.status in {AttemptStatus.CRASHED, AttemptStatus.TIMED_OUT}:
                unit.charges.append(end.status)
            else:
                unit.returned += 1

    def _out(self, event: events.ResultsArrived | events.AttemptsFailed, result: AttemptResult) -> Out | None:
        """The attempt that a node answers for, if it was asked to."""
        if event.epoch != FIRST_EPOCH:
            return None
        out = self.held.get(event.node, {}).get((event.job, result.index))
        return out if out is not None and out.attempt == result.attempt else None

    def _take(self, node: NodeId, job: JobId, index: int) -> UnitBook:
        """An attempt is not out any more."""
        del self.held[node][job, index]
        unit = self.jobs[job].units[index]
        del unit.out[node]
        return unit

    # --- effects ----------------------------------------------------------------------------------------------

    def note_effect(self, effect: effects.Effect, now: float) -> None:
        """The owner asked for something."""
        match effect:
            case effects.Journal(entries):
                self.journal += entries
            case effects.Lease():
                self._leased(effect)
            case effects.Recall(node, job, _, indices):
                self._recalled(node, job, indices)
            case effects.Deliver(job, outcomes):
                for outcome in outcomes:
                    unit = self.jobs[job].units[outcome.index]
                    unit.outcome, unit.ended_at = outcome, now
            case effects.JobFinished(job, state):
                self.jobs[job].state, self.jobs[job].ended_at = state, now
            case effects.Disagreement() | effects.Wake():
                pass

    def _leased(self, lease: effects.Lease) -> None:
        job, view = self.jobs[lease.job], self.views[lease.node]
        voter = view.node if view.trusted else view.operator
        for index, attempt, payload in zip(lease.indices, lease.attempts, lease.payloads, strict=True):
            unit = job.units[index]
            out = Out(lease.node, voter, attempt, len(payload))
            unit.out[lease.node] = self.held.setdefault(lease.node, {})[lease.job, index] = out
            unit.attempts += 1

    def _recalled(self, node: NodeId, job: JobId, indices: list[int]) -> None:
        """What the owner takes back while the unit goes on is charged to it: the owner waited for too long."""
        wanted = set(indices)
        ended = self.written(job)
        for key in list(self.held.get(node, ())):
            if key[0] == job and (not wanted or key[1] in wanted):
                unit = self._take(node, *key)
                if isinstance(self.event, events.Tick) and key[1] not in ended:
                    unit.charges.append(AttemptStatus.TIMED_OUT)
