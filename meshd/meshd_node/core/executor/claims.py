"""Who must make room for whom, and room that is kept until it is enough for a large worker."""

import math
from typing import Final, NamedTuple

from meshd_node.core.executor.backlog import Backlog
from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.crew import Crew
from meshd_node.core.executor.fairness import Shares
from meshd_node.core.executor.room import Room, Shortfall
from meshd_node.core.executor.worker import Worker
from meshd_node.core.tenant import Tenant

_NOTHING: Final = Shortfall(0, 0, 0)


class Claim(NamedTuple):
    """Room is kept for this tenant's next worker, until then at the latest."""

    tenant: Tenant
    until: float


class Claims:
    """Room that becomes free goes to whoever it is due to.

    A large worker seldom finds all that it needs free at once, so room is kept for one at a time. While it is kept,
    others use only what the large one does not lack. Units may be long: room is kept for a second at first and, if
    that was too short, for twice as long the next time, with as long a pause between. So large work gets its turn in
    the end, and for its sake room lies idle for no more than half of the time.
    """

    def __init__(self, crew: Crew, backlog: Backlog, config: ExecutorConfig) -> None:
        self._crew = crew
        self._backlog = backlog
        self._turn_s = config.turn_ms / 1e3
        self._hold_s = config.hold_ms / 1e3
        self._kept: Claim | None = None
        self._next_hold_s: dict[Tenant, float] = {}
        self._rests_until: dict[Tenant, float] = {}

    @property
    def until(self) -> float:
        """When the room that is kept is let go."""
        return math.inf if self._kept is None else self._kept.until

    def kept_for(self, now: float) -> Tenant | None:
        """For whom room is kept now."""
        self.expire(now)
        return None if self._kept is None else self._kept.tenant

    def expire(self, now: float) -> None:
        """Let room go that is kept in vain."""
        if self._kept is None:
            return
        tenant = self._kept.tenant
        if not self._backlog.waiting(tenant):
            self._forget(tenant)
        elif self._kept.until <= now:
            self._rests_until[tenant] = now + self._next_hold_s[tenant]
            self._next_hold_s[tenant] *= 2
            self._kept = None

    def keep(self, tenant: Tenant, now: float) -> None:
        """Keep what is free, and what becomes free, for a tenant, unless it is kept for another or was in vain."""
        if self._kept is not None or self._rests_until.get(tenant, now) > now:
            return
        for other in [other for other in self._next_hold_s if not self._backlog.waiting(other)]:
            self._forget(other)
        hold_s = self._next_hold_s.setdefault(tenant, self._hold_s)
        self._kept = Claim(tenant, now + hold_s)

    def served(self, tenant: Tenant) -> None:
        """It has got a worker."""
        self._forget(tenant)

    def allow(self, tenant: Tenant, room: Room, now: float) -> bool:
        """Whether a worker of a tenant fits there, and takes nothing that is kept for another."""
        holding = room.find(tenant.harness)
        if holding is None:
            return False
        kept = self.kept_for(now)
        if kept is None or kept == tenant:
            return True
        rest = room.copy()
        rest.take(holding)
        return not rest.shortfall(kept.harness).exceeds(self._crew.room.shortfall(kept.harness))

    def claimant(self, worker: Worker, now: float) -> Tenant | None:
        """For whom this worker should make room as soon as it is idle.

        Where shares are less than one worker each, they take turns. A large worker is never let in before a turn is
        over: two of them would end each other after every unit.
        """
        mine, waiting = worker.tenant, self._backlog.tenants()
        if len(waiting) == (mine in waiting):
            return None
        turn_is_over = worker.serves_since + self._turn_s <= now
        kept = self.kept_for(now)
        if kept is not None and kept != mine and turn_is_over and self._helps(worker, kept):
            return kept
        shares: Shares | None = None
        best: tuple[int, int, int] | None = None
        chosen = None
        for other in waiting:
            if other == mine or not self._lacks_room(other):
                continue
            shares = shares or Shares(self._crew.workers.values(), waiting, self._crew.lent.slots)
            at_once = mine.harness.slots == other.harness.slots == 1 and shares.owes(mine, other)
            due = at_once or (turn_is_over and (shares.owes(mine, other) or shares.may_take_turn(mine, other)))
            rank = shares.rank(other)
            if due and (best is None or rank < best) and self._would_help(worker, other, now):
                best, chosen = rank, other
        return chosen

    def _lacks_room(self, tenant: Tenant) -> bool:
        """Whether it waits for a worker, and there is no room for one."""
        if self._crew.starting(tenant) >= self._backlog.waiting(tenant):
            return False
        return self._crew.room.find(tenant.harness) is None

    def _would_help(self, worker: Worker, other: Tenant, now: float) -> bool:
        """Whether the worker's end makes room enough, or is a step to it and room can be kept."""
        if self.allow(other, self._crew.room_without([worker]), now):
            return True
        rests = self._rests_until.get(other, now) > now
        return self._kept is None and not rests and self._helps(worker, other)

    def _helps(self, worker: Worker, other: Tenant) -> bool:
        after = self._crew.room_without([worker]).shortfall(other.harness)
        return after == _NOTHING or after != self._crew.room.shortfall(other.harness)

    def _forget(self, tenant: Tenant) -> None:
        self._next_hold_s.pop(tenant, None)
        self._rests_until.pop(tenant, None)
        if self._kept is not None and self._kept.tenant == tenant:
            self._kept = None
