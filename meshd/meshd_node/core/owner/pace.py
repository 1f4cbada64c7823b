"""How fast nodes run a job's units, learned from when answers come; before that, guessed from their benchmarks."""

from meshd_node.core.owner.executors import LOOPS_PER_S, Executor
from meshd_node.core.owner.terms import places
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Needs, Offer

# The weight of the newest batch. Batches of 256 are averages already; a third follows a change within a few of them.
NEWEST = 0.3
# A unit that nobody has run yet is taken to last this long on a machine of `LOOPS_PER_S`.
GUESS_S = 0.01


class Pace:
    """Seconds a unit of one job keeps a slot busy, by node. `_loops` is the same in Python loops, on any node."""

    __slots__ = ("_by_node", "_loops", "_needs", "_places", "_shown")

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._shown: dict[NodeId, float] = {}
        # By node: its offer, and how many units of this job it runs at once.
        self._places: dict[NodeId, tuple[Offer | None, int]] = {}
        self._by_node: dict[NodeId, float] = {}
        self._loops = GUESS_S * LOOPS_PER_S

    def slots(self, executor: Executor) -> int:
        """How many units a node runs at once."""
        known = self._places.get(executor.node)
        if known is None or known[0] is not executor.offer:
            at_once = 1 if executor.offer is None else places(executor.offer, self._needs)
            known = self._places[executor.node] = executor.offer, at_once
        return known[1]

    def typical_s(self) -> float:
        """How long a unit is expected to run on some node: what those that ran it show, or the guess."""
        known = self._by_node.values()
        return sum(known) / len(known) if known else self._loops / LOOPS_PER_S

    def unit_s(self, executor: Executor) -> float:
        """How long a unit is expected to run on a node."""
        return self._by_node.get(executor.node) or self._loops / executor.loops_per_s

    def finish_s(self, executor: Executor, units: int) -> float:
        """When so many more units would be back from a node, from now."""
        rounds = max((executor.held_units + units) / self.slots(executor), 1.0)
        return rounds * self.unit_s(executor) + executor.rtt_s

    def rate(self, executor: Executor) -> float:
        """Units a node ends in a second."""
        return self.slots(executor) / self.unit_s(executor)

    def look(self, executor: Executor, unit_s: float) -> list[float]:
        """Note what the workers of a node say a unit took; return what others showed, in loops of each one's word."""
        self._shown[executor.node] = unit_s * executor.loops_per_s
        return [loops for node, loops in self._shown.items() if node != executor.node]

    def learn(self, executor: Executor, unit_s: float) -> None:
        """Take in one batch's time per unit."""
        known = self._by_node.get(executor.node)
        self._by_node[executor.node] = unit_s if known is None else known + NEWEST * (unit_s - known)
        self._loops += NEWEST * (unit_s * executor.loops_per_s - self._loops)


def observed(executor: Executor, slots: int, units: int, took_us: int, now: float) -> float | None:
    """The time per unit that a batch of answers shows; None if it shows nothing. Call before the batch is dropped.

    Answers tell more than processor time: waiting counts, and what other owners take. Only where a node mixes jobs
    they can not be told apart.
    """
    if len(executor.held) > 1:
        return took_us / units / 1e6 if took_us else None
    elapsed = now - executor.busy_since
    return elapsed * min(slots, executor.held_units) / units if elapsed > 0 else None
