"""How fast nodes run a job's units, learned from when answers come; before that, guessed from their benchmarks."""

from meshd_node.core.owner.executors import LOOPS_PER_S, Executor
from meshd_protocol.ids import NodeId

# The weight of the newest batch. Batches of 256 are averages already; a third follows a change within a few of them.
NEWEST = 0.3
# A unit that nobody has run yet is taken to last this long on a machine of `LOOPS_PER_S`.
GUESS_S = 0.01


class Pace:
    """Seconds a unit of one job keeps a slot busy, by node. `_loops` is the same in Python loops, on any node."""

    __slots__ = ("_by_node", "_loops")

    def __init__(self) -> None:
        self._by_node: dict[NodeId, float] = {}
        self._loops = GUESS_S * LOOPS_PER_S

    def typical_s(self) -> float:
        """How long a unit is expected to run on some node: what those that ran it show, or the guess."""
        known = self._by_node.values()
        return sum(known) / len(known) if known else self._loops / LOOPS_PER_S

    def unit_s(self, executor: Executor) -> float:
        """How long a unit is expected to run on a node."""
        return self._by_node.get(executor.node) or self._loops / executor.loops_per_s

    def finish_s(self, executor: Executor, units: int) -> float:
        """When so many more units would be back from a node, from now."""
        rounds = max((executor.held_units + units) / executor.slots, 1.0)
        return rounds * self.unit_s(executor) + executor.rtt_s

    def rate(self, executor: Executor) -> float:
        """Units a node ends in a second."""
        return executor.slots / self.unit_s(executor)

    def learn(self, executor: Executor, unit_s: float) -> None:
        """Take in one batch's time per unit."""
        known = self._by_node.get(executor.node)
        self._by_node[executor.node] = unit_s if known is None else known + NEWEST * (unit_s - known)
        self._loops += NEWEST * (unit_s * executor.loops_per_s - self._loops)


def observed(executor: Executor, units: int, took_us: int, now: float) -> float | None:
    """The time per unit that a batch of answers shows; None if it shows nothing. Call before the batch is dropped.

    Answers tell more than processor time: waiting counts, and what other owners take. Only where a node mixes jobs
    they can not be told apart.
    """
    if len(executor.held) > 1:
        return took_us / units / 1e6 if took_us else None
    elapsed = now - executor.busy_since
    return elapsed * min(executor.slots, executor.held_units) / units if elapsed > 0 else None
