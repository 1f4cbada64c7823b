"""Work that waits at the node: by tenant, there by owner in turn, there in order of arrival."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.events import LeasedWork, OwnerBound
from meshd_node.core.executor.pace import Means
from meshd_node.core.executor.windows import Account
from meshd_node.core.tenant import Tenant
from meshd_protocol.ids import JobId, NodeId
from meshd_protocol.limits import BATCH_UNITS_MAX


class Share:
    """What one owner leased of one job in one epoch. `held` has the keys of attempts that are owed an answer."""

    __slots__ = ("account", "epoch", "held", "job", "means", "tenant", "timeout_s", "weight")

    def __init__(
        self,
        account: Account,
        job: JobId,
        epoch: int,
        tenant: Tenant,
        timeout_s: float,
        means: Means,
        weight: float = 1.0,
    ) -> None:
        """Hold nothing yet. A `timeout_s` of 0 is no limit; a unit keeps `weight` slots from others' units."""
        self.account = account
        self.job = job
        self.epoch = epoch
        self.tenant = tenant
        self.timeout_s = timeout_s
        self.means = means
        self.weight = weight
        self.held: set[int] = set()

    @property
    def barred(self) -> OwnerBound | None:
        """What bars its work from this node, if it is barred."""
        return self.account.barred(self.tenant.harness.runtime)

    def ghost(self) -> "Share":
        """A share of the same kind that is owed nothing, for copies that run though nobody wants them any more.

        The same attempt may be leased again while such a copy runs; it must not end the new one.
        """
        return Share(self.account, self.job, self.epoch, self.tenant, self.timeout_s, self.means, self.weight)


def key_of(work: LeasedWork) -> int:
    """Name an attempt within its share; an attempt's number has 16 bits."""
    return work.unit << 16 | work.attempt


class Stretch(NamedTuple):
    """Units of one share, one after the other."""

    share: Share
    works: deque[LeasedWork]


class Backlog:
    """Queues; a stretch is never empty, nor is a queue, so that whatever is there is work."""

    def __init__(self, config: ExecutorConfig) -> None:
        """Start with nothing."""
        self._config = config
        self._queues: dict[Tenant, dict[NodeId, deque[Stretch]]] = {}
        self._units: dict[Tenant, int] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def tenants(self) -> Collection[Tenant]:
        """Those whose work waits, the longest waiting first."""
        return self._queues.keys()

    def waiting(self, tenant: Tenant) -> int:
        """How many units wait."""
        return self._units.get(tenant, 0)

    def append(self, share: Share, works: Iterable[LeasedWork]) -> None:
        """Queue work behind its owner's other work."""
        fresh = deque(works)
        if not fresh:
            return
        queue = self._queue(share)
        if queue and queue[-1].share is share:
            queue[-1].works.extend(fresh)
        else:
            queue.append(Stretch(share, fresh))
        self._count(share.tenant, len(fresh))

    def put_back(self, share: Share, works: Iterable[LeasedWork]) -> None:
        """Queue work that was taken before, ahead of its owner's other work."""
        stretch = Stretch(share, deque(works))
        if stretch.works:
            self._queue(share).appendleft(stretch)
            self._count(share.tenant, len(stretch.works))

    def turn(self, tenant: Tenant) -> None:
        """Let the others' waiting count as longer: this one was just given a worker."""
        queues = self._queues.pop(tenant, None)
        if queues is not None:
            self._queues[tenant] = queues

    def next_is_long(self, tenant: Tenant) -> bool:
        """Whether the unit that `take` begins with is expected to be long, or is the first of its function."""
        share, works = next(iter(self._queues[tenant].values()))[0]
        return self._expected_us(share.means, works[0]) >= self._config.long_us

    def take(self, tenant: Tenant, units: int) -> tuple[Share, list[LeasedWork]]:
        """Take a batch's worth of the next owner's work, at most `units` but at least one; there must be some."""
        queues = self._queues[tenant]
        owner, queue = next(iter(queues.items()))
        share, works = queue[0]
        taken = self._cut(share.means, works, min(units, BATCH_UNITS_MAX))
        if not works:
            queue.popleft()
        del queues[owner]
        if queue:
            queues[owner] = queue
        self._count(tenant, -len(taken))
        return share, taken

    def remove(self, share: Share, keys: Collection[int] | None) -> list[LeasedWork]:
        """Take out those of a share with these keys, or all of it."""
        queues = self._queues.get(share.tenant, {})
        queue = queues.get(share.account.node)
        if queue is None:
            return []
        removed: list[LeasedWork] = []
        kept: deque[Stretch] = deque()
        for stretch in queue:
            if stretch.share is share:
                removed += [work for work in stretch.works if keys is None or key_of(work) in keys]
                works = deque(work for work in stretch.works if keys is not None and key_of(work) not in keys)
                stretch = Stretch(share, works)  # noqa: PLW2901  # what is left of it
            if stretch.works:
                kept.append(stretch)
        if kept:
            queues[share.account.node] = kept
        else:
            del queues[share.account.node]
        self._count(share.tenant, -len(removed))
        return removed

    def trim(self, owner: NodeId, units: int) -> list[Stretch]:
        """Take out up to `units` of an owner's units, the newest first."""
        trimmed = []
        for tenant in list(self._queues):
            queue = self._queues[tenant].get(owner)
            while queue and units > 0:
                share, works = queue.pop()
                count = min(units, len(works))
                newest = deque(works.pop() for _ in range(count))
                if works:
                    queue.append(Stretch(share, works))
                trimmed.append(Stretch(share, newest))
                units -= count
                self._count(tenant, -count, emptied=None if queue else owner)
        return trimmed

    def clear(self, tenant: Tenant) -> Iterator[Stretch]:
        """Take out all of a tenant's work."""
        queues = self._queues.pop(tenant, {})
        self._units.pop(tenant, None)
        for queue in queues.values():
            yield from queue

    def _cut(self, means: Means, works: deque[LeasedWork], units: int) -> list[LeasedWork]:
        first = works.popleft()
        taken = [first]
        if self._expected_us(means, first) >= self._config.long_us:
            return taken
        time_left = self._config.batch_us - self._expected_us(means, first)
        bytes_left = self._config.batch_bytes - len(first.payload)
        unknown_us = float(self._config.long_us)
        while works and len(taken) < units:
            _, _, function, payload = works[0]
            time_left -= means.get(function, unknown_us)
            bytes_left -= len(payload)
            # Two at least of what is not long: behind one unit a worker is given no second batch.
            if bytes_left < 0 or (time_left < 0 and (len(taken) > 1 or means.get(function, unknown_us) >= unknown_us)):
                break
            taken.append(works.popleft())
        return taken

    def _expected_us(self, means: Means, work: LeasedWork) -> float:
        return means.get(work.function, float(self._config.long_us))

    def _queue(self, share: Share) -> deque[Stretch]:
        queues = self._queues.setdefault(share.tenant, {})
        return queues.setdefault(share.account.node, deque())

    def _count(self, tenant: Tenant, change: int, emptied: NodeId | None = None) -> None:
        if emptied is not None:
            del self._queues[tenant][emptied]
        units = self._units.get(tenant, 0) + change
        if units:
            self._units[tenant] = units
        else:
            self._units.pop(tenant, None)
            self._queues.pop(tenant, None)
