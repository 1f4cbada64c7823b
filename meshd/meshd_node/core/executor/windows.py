"""How much each owner may have unanswered here, and what it has."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.effects import GrantCredit
from meshd_node.core.executor.events import OwnerBound
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Runtime

# A window follows the mean of about so many of the owner's last units.
_MEMORY_UNITS: Final = 32
# A wider window waits for more results: four times a step is from 4 to 4,096 in five round trips.
_GROWTH: Final = 4


class Account:
    """What one owner has here and may have."""

    __slots__ = (
        "bound", "granted", "idle_since", "node", "payload_bytes", "spent_units", "spent_us", "units",
    )  # fmt: skip

    def __init__(self, node: NodeId, granted: int, now: float) -> None:
        """Open an account with the window that was granted first."""
        self.node = node
        self.granted = granted
        self.units = 0
        self.payload_bytes = 0
        self.spent_us = 0.0
        self.spent_units = 0
        self.idle_since = now
        self.bound: OwnerBound | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing of this owner's is run here any more."""
        return self.bound is not None and not self.bound.runtimes

    def barred(self, runtime: Runtime) -> OwnerBound | None:
        """What bars work of a runtime, if it is barred."""
        return self.bound if self.bound is not None and runtime not in self.bound.runtimes else None

    def learn(self, units: int, spent_us: float) -> None:
        """Count units that ended; older ones weigh less and less."""
        self.spent_units += units
        self.spent_us += spent_us
        if self.spent_units > _MEMORY_UNITS:
            self.spent_us *= _MEMORY_UNITS / self.spent_units
            self.spent_units = _MEMORY_UNITS


class Resized(NamedTuple):
    """A new window, and how many of its owner's units are here beyond it because it was wider."""

    grant: GrantCredit
    surplus: int


class Windows:
    """The accounts of all owners that are up."""

    def __init__(self, slots: int, config: ExecutorConfig) -> None:
        """Start with nobody."""
        self._slots = slots
        self._config = config
        # One that runs and one that waits behind it in each slot: right for long units, a start for others.
        self._start = 2 * slots
        self.accounts: dict[NodeId, Account] = {}

    def open(self, owner: NodeId, now: float) -> GrantCredit:
        """Open an account."""
        self.accounts[owner] = Account(owner, self._start, now)
        return self.grant(self.accounts[owner])

    def grant(self, account: Account) -> GrantCredit:
        """An owner's window, as it is to be told."""
        if account.closed:
            return GrantCredit(account.node, 0, 0)
        return GrantCredit(account.node, account.granted, self._config.window_bytes)

    def grants(self) -> list[GrantCredit]:
        """Every owner's window, again."""
        return [self.grant(account) for account in self.accounts.values()]

    def lend(self, slots: int) -> list[Resized]:
        """Fit every window to a new number of slots."""
        self._slots, self._start = slots, 2 * slots
        resized = []
        for account in self.accounts.values():
            account.granted = self._target(account) if account.spent_units else self._start
            surplus = max(0, account.units - account.granted)
            resized.append(Resized(self.grant(account), surplus))
        return resized

    def holds(self, account: Account) -> bool:
        """Whether what an owner has here is within the hard bounds."""
        return account.units <= self._config.queue_units_max and account.payload_bytes <= self._config.queue_bytes_max

    def adjust(self, account: Account) -> Iterator[Resized]:
        """Fit a window to what its owner's units took; nothing while the old one is near enough."""
        before = account.granted
        wanted = min(self._target(account), _GROWTH * before)
        if wanted <= before // 2 or wanted >= before + (before + 1) // 2:
            account.granted = wanted
            surplus = max(0, account.units - wanted) if wanted < before else 0
            yield Resized(self.grant(account), surplus)

    def forget_idle(self, now: float) -> list[GrantCredit]:
        """Back to the first window for those who were idle for long."""
        grants = []
        for account in self.accounts.values():
            if self._forget_at(account) <= now:
                account.spent_units, account.spent_us = 0, 0.0
                account.granted = self._start
                grants.append(self.grant(account))
        return grants

    def next_wake(self) -> float:
        """When `forget_idle` has something to do."""
        earliest = float("inf")
        for account in self.accounts.values():
            if not account.units and account.granted != self._start:
                earliest = min(earliest, self._forget_at(account))
        return earliest

    def _forget_at(self, account: Account) -> float:
        if account.units or account.granted == self._start:
            return float("inf")
        return account.idle_since + self._config.window_idle_ms / 1e3

    def _target(self, account: Account) -> int:
        active = sum(1 for other in self.accounts.values() if other.units) or 1
        mean_us = account.spent_us / account.spent_units
        units = int(self._slots * self._config.window_ms * 1e3 / (mean_us * active))
        return max(self._start, min(units, self._config.window_units_max))
