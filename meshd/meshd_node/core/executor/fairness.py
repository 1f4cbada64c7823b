"""How many slots everybody has and is due: nodes share evenly, then a node's users, then what a user asks for."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

from meshd_node.core.executor.worker import Worker
from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Tenant
from meshd_protocol.ids import NodeId

# Where two tenants part.
_NODE: Final = 0
_USER: Final = 1
_TENANT: Final = 2


class Shares:
    """One look at it. Nobody gains by inventing users or kinds of work: each only divides its own share further."""

    def __init__(self, workers: Iterable[Worker], waiting: Collection[Tenant], slots: int) -> None:
        self._nodes: Counter[NodeId] = Counter()
        self._users: Counter[Submitter] = Counter()
        self._tenants: Counter[Tenant] = Counter()
        active = set(waiting)
        for worker in workers:
            tenant, taken = worker.tenant, worker.holding.slots
            self._nodes[tenant.submitter.node] += taken
            self._users[tenant.submitter] += taken
            self._tenants[tenant] += taken
            if worker.given or not worker.ready:
                active.add(tenant)
        users = {tenant.submitter for tenant in active}
        self._users_of = Counter(user.node for user in users)
        self._tenants_of = Counter(tenant.submitter for tenant in active)
        self._node_due = max(1, slots // max(1, len(self._users_of)))

    def rank(self, tenant: Tenant) -> tuple[int, int, int]:
        """The lower, the less it has: its node first."""
        return self._nodes[tenant.submitter.node], self._users[tenant.submitter], self._tenants[tenant]

    def owes(self, mine: Tenant, other: Tenant) -> bool:
        """Whether `mine` has more than its due and `other` less."""
        level = _parting(mine, other)
        return self.rank(mine)[level] > self._due(mine, level) > self.rank(other)[level]

    def may_take_turn(self, mine: Tenant, other: Tenant) -> bool:
        """Whether `other` has nothing at all: as a node among nodes, or as a part of what it has in common."""
        return not self.rank(other)[_parting(mine, other)]

    def _due(self, tenant: Tenant, level: int) -> int:
        if level == _NODE:
            return self._node_due
        user_due = max(1, self._node_due // max(1, self._users_of[tenant.submitter.node]))
        return user_due if level == _USER else max(1, user_due // max(1, self._tenants_of[tenant.submitter]))


def _parting(mine: Tenant, other: Tenant) -> int:
    if mine.submitter.node != other.submitter.node:
        return _NODE
    return _USER if mine.submitter != other.submitter else _TENANT
