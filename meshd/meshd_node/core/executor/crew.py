"""All workers of the node: whom they serve, and what they leave free."""

from collections.abc import Collection, Iterable

from meshd_node.core.executor.events import Lent
from meshd_node.core.executor.room import Room
from meshd_node.core.executor.worker import Given, Worker
from meshd_node.core.tenant import Tenant


class Crew:
    """Never more workers than there is room for, but for those that leave since less is lent."""

    def __init__(self, lent: Lent) -> None:
        """Start with nobody."""
        self.room = Room(lent)
        self._hired = 0
        self.workers: dict[int, Worker] = {}
        self._of: dict[Tenant, dict[int, Worker]] = {}
        # Its idle workers are kept for ever: most nodes have one submitter for a long time.
        self.last_tenant: Tenant | None = None
        self.shrinks = False

    @property
    def lent(self) -> Lent:
        """What there is to share."""
        return self.room.lent

    def of(self, tenant: Tenant) -> Collection[Worker]:
        """A tenant's workers."""
        return self._of.get(tenant, {}).values()

    def starting(self, tenant: Tenant) -> int:
        """How many of a tenant's workers are not ready yet."""
        return sum(1 for worker in self.of(tenant) if not worker.ready)

    def hire(self, tenant: Tenant, now: float) -> Worker:
        """Take room that is free."""
        holding = self.room.find(tenant.harness)
        assert holding is not None, "whoever hires has looked for room"
        self.room.take(holding)
        self._hired += 1
        worker = Worker(self._hired, tenant, holding, now)
        self.workers[worker.number] = worker
        self._of.setdefault(tenant, {})[worker.number] = worker
        self.last_tenant = tenant
        return worker

    def dismiss(self, worker: Worker) -> list[Given]:
        """Forget a worker; return what it had not answered."""
        del self.workers[worker.number]
        self.room.give(worker.holding)
        mates = self._of[worker.tenant]
        del mates[worker.number]
        if not mates:
            del self._of[worker.tenant]
        given = list(worker.given.values())
        worker.given.clear()
        return given

    def room_without(self, workers: Iterable[Worker]) -> Room:
        """What would be free if these ended."""
        room = self.room.copy()
        for worker in workers:
            room.give(worker.holding)
        return room

    def lend(self, lent: Lent) -> None:
        """Share this from now on. Workers that do not fit leave when they are idle, the idle ones first."""
        self.room.lent = lent
        kept = Room(lent)
        for worker in sorted(self.workers.values(), key=lambda worker: not worker.given):
            worker.leaves = not kept.admits(worker.holding)
            if not worker.leaves:
                kept.take(worker.holding)
        self.shrinks = any(worker.leaves for worker in self.workers.values())

    def leavers(self) -> list[Worker]:
        """Those that leave and have nothing to finish."""
        if not self.shrinks:
            return []
        self.shrinks = any(worker.leaves for worker in self.workers.values())
        return [worker for worker in self.workers.values() if worker.leaves and not worker.given]
