"""A bound on what one peer may make us do."""

from collections import OrderedDict
from typing import Final

from meshd_protocol.ids import NodeId

# More than have sessions; who was asked for nothing for longest is forgotten.
_PEERS_KEPT: Final = 1_024


class Budget:
    """Fills at `rate_per_s` up to `burst`; who has spent it waits. `now` must not go back."""

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._left = burst
        self._filled_at = 0.0

    def spend(self, cost: float, now: float) -> bool:
        """Take `cost` out, if that much is in."""
        if now > self._filled_at:
            self._left = min(self._burst, self._left + (now - self._filled_at) * self._rate_per_s)
            self._filled_at = now
        if cost > self._left:
            return False
        self._left -= cost
        return True


class PeerBudgets:
    """One budget for each peer. It outlives a session: hanging up must not fill it."""

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._budgets: OrderedDict[NodeId, Budget] = OrderedDict()

    def spend(self, peer: NodeId, cost: float, now: float) -> bool:
        """Take `cost` out of this peer's, if that much is in."""
        budget = self._budgets.get(peer)
        if budget is None:
            budget = self._budgets[peer] = Budget(self._rate_per_s, self._burst)
        self._budgets.move_to_end(peer)
        if len(self._budgets) > _PEERS_KEPT:
            self._budgets.popitem(last=False)
        return budget.spend(cost, now)
