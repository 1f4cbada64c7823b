"""Who runs what next: work that waits meets workers that have room, within each tenant."""

from itertools import groupby

from meshd_node.core.executor.backlog import Backlog, key_of
from meshd_node.core.executor.claims import Claims
from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.crew import Crew
from meshd_node.core.executor.effects import EndWorker, RunOn, StartWorker
from meshd_node.core.executor.events import Lent
from meshd_node.core.executor.step import Step
from meshd_node.core.executor.worker import Given, Worker
from meshd_node.core.tenant import Tenant
from meshd_protocol.limits import BATCH_UNITS_MAX


class Dispatch:
    """The backlog and the crew, and what moves between them."""

    def __init__(self, lent: Lent, config: ExecutorConfig) -> None:
        """Start with neither work nor workers."""
        self._config = config
        self._grace_s = config.recall_grace_ms / 1e3
        self.backlog = Backlog(config)
        self.crew = Crew(lent)
        self.claims = Claims(self.crew, self.backlog, config)

    def feed_all(self, step: Step) -> None:
        """Give out what waits of everybody."""
        for tenant in list(self.backlog.tenants()):
            self.feed(tenant, step)

    def feed(self, tenant: Tenant, step: Step) -> None:
        """Give what waits of a tenant to its workers, to the idle ones first; get more workers for the rest."""
        for idle in (True, False):
            waiting = self.backlog.waiting(tenant)
            if not waiting:
                return
            workers = [worker for worker in self.crew.of(tenant) if worker.ready and (idle is not bool(worker.given))]
            for worker in workers:
                self._give(worker, -(-waiting // len(workers)), step)
        self._staff(tenant, step)

    def feed_worker(self, worker: Worker, step: Step) -> None:
        """Fill one worker; if nothing of its tenant's is left for it, others may use its slot."""
        while self._give(worker, BATCH_UNITS_MAX, step):
            pass
        if not worker.given and self.backlog:
            self.feed_all(step)

    def put_back(self, entries: list[Given]) -> None:
        """Queue again, in front, what was given but not started."""
        wanted = [entry for entry in entries if key_of(entry[1]) in entry[0].held]
        for share, group in groupby(reversed(wanted), key=lambda entry: entry[0]):
            self.backlog.put_back(share, [work for _, work in group][::-1])

    def end_worker(self, worker: Worker, reason: str, step: Step) -> list[Given]:
        """End a worker; return what it had not answered."""
        step.effects.append(EndWorker(worker.number, reason))
        return self.crew.dismiss(worker)

    def end_idle(self, step: Step) -> None:
        """End workers that were idle for long."""
        for worker in list(self.crew.workers.values()):
            if self.idle_until(worker) <= step.now:
                self.end_worker(worker, "idle", step)

    def idle_until(self, worker: Worker) -> float:
        """When a worker ends for being idle; the last tenant's never do."""
        if worker.given or not worker.ready or worker.tenant == self.crew.last_tenant:
            return float("inf")
        return worker.idle_since + self._config.worker_idle_ms / 1e3

    def _give(self, worker: Worker, units: int, step: Step) -> bool:
        """Give a batch of at most `units` to a worker that has room, unless somebody else is due to have its room."""
        backlog = self.backlog
        if not backlog or worker.leaves:
            return False
        claimant = self.claims.claimant(worker, step.now)
        if claimant is not None:
            self._make_room(worker, claimant, step)
            return False
        tenant = worker.tenant
        if not backlog.waiting(tenant):
            return False
        long = backlog.next_is_long(tenant)
        if not worker.has_room(long):
            return False
        share, works = backlog.take(tenant, units)
        serials = worker.give(share, works, long, step.now)
        functions, payloads = [work.function for work in works], [work.payload for work in works]
        step.effects.append(RunOn(worker.number, share.job, serials, functions, payloads))
        worker.set_deadline(self._grace_s)
        return True

    def _staff(self, tenant: Tenant, step: Step) -> None:
        """Get more workers for what waits: in free room, or in place of others' idle ones."""
        missing = self.backlog.waiting(tenant) - self.crew.starting(tenant)
        while missing > 0 and self._finds_room(tenant, step):
            self._hire(tenant, step)
            missing -= 1

    def _make_room(self, worker: Worker, claimant: Tenant, step: Step) -> None:
        if worker.given:
            return
        self.end_worker(worker, "its room is due to other work", step)
        if self._finds_room(claimant, step):
            self._hire(claimant, step)
        else:
            self.claims.keep(claimant, step.now)

    def _hire(self, tenant: Tenant, step: Step) -> None:
        worker = self.crew.hire(tenant, step.now)
        self.backlog.turn(tenant)
        self.claims.served(tenant)
        enforced = worker.holding.memory_bytes if tenant.harness.memory_bytes or self.crew.lent.bound_unasked else 0
        step.effects.append(StartWorker(worker.number, tenant, worker.holding.gpus, enforced))

    def _finds_room(self, tenant: Tenant, step: Step) -> bool:
        """Whether there is room for one more worker, if need be once others' idle ones are ended."""
        if self.claims.allow(tenant, self.crew.room, step.now):
            return True
        ended = self._idle_in_the_way(tenant, step.now)
        for worker in ended:
            self.end_worker(worker, "other work needs its room", step)
        return bool(ended)

    def _idle_in_the_way(self, tenant: Tenant, now: float) -> list[Worker]:
        """The longest idle workers that nothing waits for and whose end makes room enough; none if it does not."""
        idle = [
            worker
            for worker in self.crew.workers.values()
            if not worker.given and worker.ready and worker.tenant != tenant and not self.backlog.waiting(worker.tenant)
        ]
        if not idle:
            return []
        chosen: list[Worker] = []
        for worker in sorted(idle, key=lambda worker: worker.idle_since):
            before = self.crew.room_without(chosen).shortfall(tenant.harness)
            if self.crew.room_without([*chosen, worker]).shortfall(tenant.harness) == before:
                continue
            chosen.append(worker)
            if self.claims.allow(tenant, self.crew.room_without(chosen), now):
                return chosen
        return []
