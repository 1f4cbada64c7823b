"""Sees everything that the job engine does in a world, keeps the books and applies the rules."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from meshd_node.core.executor import effects as executor_effects
from meshd_node.core.executor import events as executor_events
from meshd_node.core.owner import effects as owner_effects
from meshd_node.core.owner import events as owner_events
from meshd_protocol.framing import Message
from meshd_protocol.ids import JobId, NodeId
from meshd_sim.jobs.books import JobBook, OwnerBook
from meshd_sim.jobs.plans import JobPlan
from meshd_sim.jobs.rules.endings import check_all_ended, check_failures
from meshd_sim.jobs.rules.obligations import Obligations
from meshd_sim.jobs.rules.placing import check_lease, check_recalls
from meshd_sim.jobs.rules.promises import check_promise
from meshd_sim.jobs.rules.silence import check_silence
from meshd_sim.jobs.rules.verdicts import Honesty, Verdicts
from meshd_sim.jobs.rules.work import Work

Rule = Callable[[owner_effects.Effect, OwnerBook, float], None]
_RULES: Final[tuple[Rule, ...]] = (check_promise, check_lease, check_failures)


class JobWitness:
    """The `Watch` of a world. `clock` is the world's time: nodes' own clocks differ."""

    def __init__(self, clock: Callable[[], float], honest: Honesty) -> None:
        self._clock = clock
        self._rules = (*_RULES, Verdicts(honest).check)
        self.owners: dict[NodeId, OwnerBook] = {}
        self.executors: dict[NodeId, Obligations] = {}
        self.work = Work()
        self.jobs: list[JobBook] = []
        self.seen: Counter[str] = Counter()
        self._last_word = ("", 0.0)

    # --- owners -----------------------------------------------------------------------------------------------

    def owner_began(self, node: NodeId) -> None:
        """An owner starts with nothing."""
        self.owner_ended(node)
        self.owners[node] = OwnerBook(node)

    def owner_ended(self, node: NodeId) -> None:
        """Its process is gone, and its jobs with it: until journals outlive it, they end here."""
        book = self.owners.pop(node, None)
        if book is None:
            return
        for job in book.open_jobs():
            job.ended_at = self._clock()
            job.state = "lost"
            self.seen["jobs lost"] += 1
            for unit in job.units:
                unit.ended_at = min(unit.ended_at, job.ended_at)

    def job_opened(self, node: NodeId, job: JobId, plan: JobPlan) -> None:
        """An owner is about to accept a job."""
        book = self.owners[node].jobs[job] = self.work.jobs[job] = JobBook(plan)
        self.jobs.append(book)

    def owner_stepped(
        self, node: NodeId, event: owner_events.Event, effects: list[owner_effects.Effect], now: float
    ) -> None:
        """An owner's machine handled an event."""
        book, now = self.owners[node], self._clock()
        book.note_event(event, now)
        for effect in effects:
            for rule in self._rules:
                rule(effect, book, now)
            book.note_effect(effect, now)
            self._count(effect)
        check_recalls(effects, book)

    def revoked(self, node: NodeId, revoked: NodeId) -> None:
        """An owner's node knows of a revocation."""
        if node in self.owners:
            self.owners[node].revoked.add(revoked)

    # --- executors --------------------------------------------------------------------------------------------

    def executor_began(self, node: NodeId, slots: int, memory_bytes: int) -> None:
        """An executor starts with nothing."""
        self.executors[node] = Obligations(slots, memory_bytes)

    def executor_ended(self, node: NodeId) -> None:
        """Its process is gone."""
        self.executors.pop(node, None)

    def executor_stepped(
        self, node: NodeId, event: executor_events.Event, effects: list[executor_effects.Effect], now: float
    ) -> None:
        """An executor's machine handled an event."""
        book = self.executors[node]
        book.note_event(event)
        for effect in effects:
            book.note_effect(effect)

    def began(self, node: NodeId, job: JobId, index: int) -> None:
        """A worker began with a unit."""
        self.work.began(node, job, index, self._clock())

    def stopped(self, node: NodeId, job: JobId, index: int) -> None:
        """A worker ended a unit, or was ended in it."""
        self.work.stopped(node, job, index, self._clock())

    def sent(self, sender: NodeId, receiver: NodeId, message: Message) -> None:
        """A message of the job engine is on its way."""
        self._last_word = (type(message).__name__, self._clock())

    def _count(self, effect: owner_effects.Effect) -> None:
        """What a run of many worlds must have seen, or it proves less than it seems to."""
        match effect:
            case owner_effects.Deliver(_, outcomes):
                self.seen.update(outcome.status.name.lower() for outcome in outcomes)
            case owner_effects.JobFinished(_, state):
                self.seen[f"jobs {state}"] += 1
            case owner_effects.Lease():
                self.seen["retried"] += sum(map(bool, effect.attempts))
            case owner_effects.Recall():
                self.seen["recalled"] += 1
            case owner_effects.Disagreement():
                self.seen["disagreed"] += 1
            case _:
                pass

    # --- the end ----------------------------------------------------------------------------------------------

    def check_end(self, quiet_at: float) -> None:
        """Long after the last fault, which was at `quiet_at`: everything has come to its end."""
        self.work.check(self._clock())
        for owner in self.owners.values():
            check_all_ended(owner)
        for executor in self.executors.values():
            executor.check_all_paid()
        if all(job.state for job in self.jobs):
            ended_at = max([quiet_at, *(job.ended_at for job in self.jobs)])
            check_silence(*self._last_word, ended_at)
