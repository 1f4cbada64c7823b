"""The executor: runs leased units on this node's workers, and owes each of them exactly one end."""

from typing import Final, assert_never

from meshd_node.core.executor.anteroom import Anteroom
from meshd_node.core.executor.backlog import Share, key_of
from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.dispatch import Dispatch
from meshd_node.core.executor.effects import Drained, Effect, GrantCredit, PrepareEnvironment, Wake
from meshd_node.core.executor.events import (
    DrainBegan,
    DrainEnded,
    EnvironmentFailed,
    EnvironmentGone,
    EnvironmentReady,
    Event,
    LeaseArrived,
    LeasedWork,
    Lent,
    OwnerBound,
    OwnerLost,
    OwnerUp,
    Recalled,
    Tick,
    WorkerEnded,
    WorkerRan,
    WorkerReady,
)
from meshd_node.core.executor.ledger import Ledger
from meshd_node.core.executor.room import refusal, width
from meshd_node.core.executor.step import Step
from meshd_node.core.executor.windows import Resized
from meshd_node.core.executor.worker import Given, Worker
from meshd_node.core.tenant import Tenant
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WorkResult

_INF: Final = float("inf")
_DRAINING: Final = "this node is draining"
_BUILDING: Final = "this node builds the Python environment that it needs; one unit for each slot waits for it"


class Executor:
    """A state machine. A unit costs it about 2 µs in batches of 256.

    A unit that an owner recalled, or whose owner was lost, gets no end: it is dropped where it waits, and where it
    runs it is let finish, but not for longer than `recall_grace_ms` in all, and its result is dropped.
    """

    def __init__(self, node: NodeId, lent: Lent, config: ExecutorConfig | None = None) -> None:
        """Serve with what is lent."""
        self.node = node
        self.config = config or ExecutorConfig()
        self._ledger = Ledger(lent, self.config)
        self._dispatch = Dispatch(lent, self.config)
        self._crew = self._dispatch.crew
        self._backlog = self._dispatch.backlog
        self._anteroom = Anteroom()
        # Workers in a row, by tenant, that ended without having answered one unit.
        self._failures: dict[Tenant, int] = {}
        self._drain_until = _INF
        self._draining = False
        self._drained = False
        self._wake_at = _INF

    @property
    def running(self) -> int:
        """Units that workers have and have not answered."""
        return sum(len(worker.given) for worker in self._crew.workers.values())

    @property
    def queued(self) -> int:
        """Units that wait for a worker."""
        return sum(map(self._backlog.waiting, self._backlog.tenants())) + self._anteroom.count

    @property
    def busy(self) -> int:
        """Workers that run something."""
        return sum(1 for worker in self._crew.workers.values() if worker.given)

    def gpus_of(self, worker: int) -> tuple[str, ...]:
        """The UUIDs of a worker's GPUs; none if it is gone."""
        known = self._crew.workers.get(worker)
        return () if known is None else known.holding.gpus

    def gpus_in_use(self) -> frozenset[str]:
        """The UUIDs of all GPUs that workers have."""
        return frozenset(uuid for worker in self._crew.workers.values() for uuid in worker.holding.gpus)

    def uses(self, environment: bytes) -> bool:
        """Whether work that needs this environment waits or has a worker."""
        tenants = [*self._backlog.tenants(), *(worker.tenant for worker in self._crew.workers.values())]
        return self._anteroom.expects(environment) or any(each.harness.environment == environment for each in tenants)

    def owes(self, owner: NodeId) -> bool:
        """Whether an owner waits for answers."""
        account = self._ledger.account(owner)
        return account is not None and account.units > 0

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Apply one event; return what the shell must do, in order."""
        step = Step(now)
        match event:
            case WorkerRan(number, results):
                self._ran(number, results, step)
            case LeaseArrived():
                self._leased(event, step)
            case WorkerReady(number):
                self._ready(number, step)
            case WorkerEnded(number, running, reason):
                self._ended(number, running, reason, step)
            case OwnerUp(owner):
                grant = self._ledger.windows.open(owner, now)
                step.effects.append(GrantCredit(owner, 0, 0) if self._draining else grant)
            case OwnerLost(owner):
                for share in self._ledger.close(owner):
                    self._recall(share, share.held.copy(), step)
            case OwnerBound():
                self._bind(event, step)
            case Recalled(owner, job, epoch, indices):
                units = frozenset(indices)
                for share in self._ledger.shares_of(owner, job, epoch if indices else None):
                    self._recall(share, {key for key in share.held if not units or key >> 16 in units}, step)
            case EnvironmentReady(environment):
                self._let_in(environment, step)
            case EnvironmentFailed(environment, reason):
                for share, works in self._anteroom.clear(environment):
                    self._ledger.end(share, works, AttemptStatus.REFUSED, reason, step)
            case EnvironmentGone(environment):
                assert not self.uses(environment), "whoever takes an environment away has asked whether it is used"
                self._anteroom.close(environment)
            case Lent():
                self._lend(event, step)
            case DrainBegan(until):
                self._drain(until, step)
            case DrainEnded():
                self._draining, self._drain_until = False, _INF
                step.effects.extend(self._ledger.windows.grants())
            case Tick():
                self._tick(step)
            case _:
                assert_never(event)
        return self._close(step)

    # --- owners ---------------------------------------------------------------------------------------------------

    def _leased(self, event: LeaseArrived, step: Step) -> None:
        account = self._ledger.account(event.owner)
        if account is None:
            # Its session ended before this was handled: nobody waits for an answer.
            return
        share, works = self._ledger.lease(event, account)
        if self._draining:
            self._ledger.end(share, works, AttemptStatus.HANDED_BACK, _DRAINING, step)
        elif bound := share.barred:
            self._ledger.end(share, works, AttemptStatus.HANDED_BACK, bound.reason, step)
        elif not self._ledger.windows.holds(account):
            self._ledger.end(share, works, AttemptStatus.REFUSED, "busy: more was sent than the window allows", step)
        elif reason := refusal(self._crew.lent, share.tenant.harness):
            self._ledger.end(share, works, AttemptStatus.REFUSED, reason, step)
        elif not self._anteroom.is_open(share.tenant.harness.environment):
            self._let_wait(share, works, step)
        else:
            self._backlog.append(share, works)
            self._dispatch.feed(share.tenant, step)

    def _let_wait(self, share: Share, works: list[LeasedWork], step: Step) -> None:
        """Have the environment made that work needs, and let some of it wait for that."""
        tenant = share.tenant
        if not self._anteroom.expects(tenant.harness.environment):
            step.effects.append(PrepareEnvironment(tenant.harness.environment, tenant.submitter))
        surplus = self._anteroom.enter(share, works, width(self._crew.lent, tenant.harness))
        self._ledger.end(share, surplus, AttemptStatus.REFUSED, _BUILDING, step)

    def _let_in(self, environment: bytes, step: Step) -> None:
        """What waited for an environment may start, if it still fits."""
        for share, works in self._anteroom.open(environment):
            if reason := refusal(self._crew.lent, share.tenant.harness):
                self._ledger.end(share, works, AttemptStatus.HANDED_BACK, reason, step)
            else:
                self._backlog.append(share, works)
                self._dispatch.feed(share.tenant, step)

    def _recall(self, share: Share, keys: set[int], step: Step) -> None:
        """Forget what waits. What runs becomes part of a share that holds nothing: its result, if any, is dropped."""
        for work in [*self._backlog.remove(share, keys), *self._anteroom.remove(share, keys)]:
            self._ledger.forget(share, work, step.now)
        ghost = share.ghost()
        for worker in self._crew.of(share.tenant):
            for serial, (given_share, work) in list(worker.given.items()):
                if given_share is share and key_of(work) in keys:
                    self._ledger.forget(share, work, step.now)
                    worker.given[serial] = (ghost, work)
            worker.set_deadline(self.config.recall_grace_ms / 1e3)

    def _bind(self, bound: OwnerBound, step: Step) -> None:
        """Hand back what waits and is not allowed any more; what runs has until then."""
        if self._ledger.account(bound.owner) is None:
            return
        grant, barred = self._ledger.bind(bound)
        if not self._draining:
            step.effects.append(grant)
        for share in barred:
            waiting = [*self._backlog.remove(share, None), *self._anteroom.remove(share, None)]
            self._ledger.end(share, waiting, AttemptStatus.HANDED_BACK, bound.reason, step)
        # Nobody's idle workers are kept for ever for the sake of work that does not come.
        self._crew.last_tenant = None
        for worker in list(self._crew.workers.values()):
            worker.set_deadline(self.config.recall_grace_ms / 1e3)
            if worker.deadline <= step.now:
                self._overdue(worker, step)
        if not self._draining:
            self._dispatch.feed_all(step)

    # --- workers --------------------------------------------------------------------------------------------------

    def _ready(self, number: int, step: Step) -> None:
        worker = self._crew.workers.get(number)
        if worker is not None:
            worker.note_ready(step.now)
            self._dispatch.feed_worker(worker, step)

    def _ran(self, number: int, results: list[WorkResult], step: Step) -> None:
        worker = self._crew.workers.get(number)
        if worker is None:
            return
        crashed = worker.tenant.harness.own_process and self._charge_crashed(worker, results, step)
        spent, handed_back = self._ledger.answer(worker.given, results, step)
        if spent or crashed:
            elapsed_s = step.now - worker.running_since
            worker.note_answer(step.now)
            self._failures.pop(worker.tenant, None)
            for resized in self._ledger.learn(spent, elapsed_s):
                self._resize(resized, step)
        worker.set_deadline(self.config.recall_grace_ms / 1e3)
        self._take_back(handed_back, step)
        if handed_back and worker.note_hand_back() > self.config.hand_backs_max:
            self._dispatch.end_worker(worker, "it gives units back and runs none", step)
            self._failed_to_start(worker.tenant, "it gives units back and runs none", step)
        if handed_back:
            self._dispatch.feed_all(step)
        elif not self._draining:
            self._dispatch.feed_worker(worker, step)

    def _charge_crashed(self, worker: Worker, results: list[WorkResult], step: Step) -> bool:
        """End what crashed in a process of its own, while its worker lives on; whether anything did."""
        crashed = [result for result in results if result.status is AttemptStatus.CRASHED]
        for result in crashed:
            entry = worker.given.pop(result.serial, None)
            if entry is not None:
                share, work = entry
                self._ledger.end(share, [work], AttemptStatus.CRASHED, result.detail, step)
        return bool(crashed)

    def _resize(self, resized: Resized, step: Step) -> None:
        """Grant a new window. What is here beyond it takes longer than was thought: idle nodes should have it."""
        if self._draining:
            return
        step.effects.append(resized.grant)
        for share, works in self._backlog.trim(resized.grant.owner, resized.surplus):
            self._ledger.end(share, works, AttemptStatus.HANDED_BACK, "units take longer than expected", step)

    def _ended(self, number: int, running: int | None, reason: str, step: Step) -> None:
        worker = self._crew.workers.get(number)
        if worker is None:
            return
        crashed = worker.given.pop(running, None) if running is not None else None
        self._take_back(self._crew.dismiss(worker), step)
        if crashed is not None:
            share, work = crashed
            self._ledger.end(share, [work], AttemptStatus.CRASHED, reason, step)
        elif not worker.answered:
            self._failed_to_start(worker.tenant, reason, step)
        self._dispatch.feed_all(step)

    def _failed_to_start(self, tenant: Tenant, reason: str, step: Step) -> None:
        failures = self._failures.pop(tenant, 0) + 1
        if failures < self.config.start_failures_max:
            if self._backlog.waiting(tenant):
                self._failures[tenant] = failures
        else:
            for share, works in self._backlog.clear(tenant):
                self._ledger.end(share, works, AttemptStatus.REFUSED, f"no worker could be started: {reason}", step)

    def _interrupt(self, entries: list[Given], step: Step) -> None:
        """Give back what a worker had that was ended while it may have run the first."""
        for share, work in entries[:1]:
            self._ledger.end(share, [work], AttemptStatus.INTERRUPTED, self._why_not_here(share), step)
        self._take_back(entries[1:], step)

    def _take_back(self, entries: list[Given], step: Step) -> None:
        """What was given and not started waits again, or goes back to its owner if it is not to run here any more."""
        stays: list[Given] = []
        for share, work in entries:
            if reason := self._why_not_here(share):
                self._ledger.end(share, [work], AttemptStatus.HANDED_BACK, reason, step)
            else:
                stays.append((share, work))
        self._dispatch.put_back(stays)

    def _why_not_here(self, share: Share) -> str:
        """Why what this node has of a share does not run here any more; "" if it does."""
        if self._draining:
            return _DRAINING
        return share.barred.reason if share.barred else refusal(self._crew.lent, share.tenant.harness)

    # --- time -----------------------------------------------------------------------------------------------------

    def _tick(self, step: Step) -> None:
        self._wake_at = _INF
        for worker in list(self._crew.workers.values()):
            if worker.deadline <= step.now:
                self._overdue(worker, step)
        if self._draining:
            if self._drain_until <= step.now:
                self._end_all_workers(step)
            return
        self._dispatch.end_idle(step)
        self._dispatch.claims.expire(step.now)
        step.effects.extend(self._ledger.windows.forget_idle(step.now))
        self._dispatch.feed_all(step)

    def _overdue(self, worker: Worker, step: Step) -> None:
        """End a worker for what it runs. That unit is charged, unless it was recalled or may not run here any more."""
        (share, work), *rest = given = self._dispatch.end_worker(worker, "its unit ran for too long", step)
        if share.barred and share.barred.until <= step.now:
            self._interrupt(given, step)
            return
        self._ledger.end(share, [work], AttemptStatus.TIMED_OUT, f"ran for longer than its {share.timeout_s:g} s", step)
        self._take_back(rest, step)

    def _drain(self, until: float, step: Step) -> None:
        """Take nothing new, hand back what waits; end workers as they finish, and all of them at `until`."""
        self._draining, self._drained = True, False
        self._drain_until = until
        step.effects.extend(GrantCredit(owner, 0, 0) for owner in self._ledger.windows.accounts)
        for tenant in list(self._backlog.tenants()):
            for share, works in self._backlog.clear(tenant):
                self._ledger.end(share, works, AttemptStatus.HANDED_BACK, _DRAINING, step)
        for share, works in self._anteroom.clear_all():
            self._ledger.end(share, works, AttemptStatus.HANDED_BACK, _DRAINING, step)
        if until <= step.now:
            self._end_all_workers(step)

    def _lend(self, lent: Lent, step: Step) -> None:
        """Share this from now on; hand back what it is too little for."""
        self._crew.lend(lent)
        for resized in self._ledger.lend(lent):
            self._resize(resized, step)
        for tenant in list(self._backlog.tenants()):
            if reason := refusal(lent, tenant.harness):
                for share, works in self._backlog.clear(tenant):
                    self._ledger.end(share, works, AttemptStatus.HANDED_BACK, reason, step)
        if not self._draining:
            self._dispatch.feed_all(step)

    def _let_go(self, step: Step) -> None:
        """End workers that leave and are idle; what they had others may use."""
        leavers = self._crew.leavers()
        for worker in leavers:
            self._dispatch.end_worker(worker, "this node lends less now", step)
        if leavers and not self._draining:
            self._dispatch.feed_all(step)

    def _end_all_workers(self, step: Step) -> None:
        for worker in list(self._crew.workers.values()):
            self._interrupt(self._dispatch.end_worker(worker, _DRAINING, step), step)

    def _close(self, step: Step) -> list[Effect]:
        if self._draining:
            for worker in [worker for worker in self._crew.workers.values() if not worker.given]:
                self._dispatch.end_worker(worker, _DRAINING, step)
        self._let_go(step)
        effects = step.report()
        if self._draining and not self._drained and not self._crew.workers:
            self._drained = True
            effects.append(Drained())
        wake_at = self._next_wake()
        if wake_at < self._wake_at:
            self._wake_at = wake_at
            effects.append(Wake(wake_at))
        return effects

    def _next_wake(self) -> float:
        """The earliest moment that matters. A later one than wished before is not worth telling: that tick finds it."""
        workers = self._crew.workers
        drain_until = self._drain_until if workers else _INF
        earliest = drain_until if self._draining else min(self._ledger.windows.next_wake(), self._dispatch.claims.until)
        for worker in workers.values():
            earliest = min(earliest, worker.deadline)
            if not worker.given and not self._draining:
                idle_until = self._dispatch.idle_until(worker)
                earliest = min(earliest, idle_until)
        return earliest
