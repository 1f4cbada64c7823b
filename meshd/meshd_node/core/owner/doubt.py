"""What this owner has against a node's word, found by looking: it is far slower than it says, or shows no GPU."""

from collections.abc import Iterable
from statistics import median
from typing import Final

# As many times slower than the others say of themselves is no mistake of measuring, nor a busy hour.
_FACTOR: Final = 4.0
_FORGIVEN: Final = 2.0
# Looks in a row that must agree. Units differ: one long batch says nothing.
_STRIKES: Final = 3
# Below this (seconds a unit), what it takes to handle a unit is measured, and not the machine.
_UNIT_S_MIN: Final = 1e-3


class Doubt:
    """Of one node. Empty texts are no doubt."""

    __slots__ = ("_strikes", "look_at", "no_gpu", "slow")

    def __init__(self) -> None:
        self.slow = ""
        self.no_gpu = ""
        self.look_at = 0.0  # the next look at its speed
        self._strikes = 0

    def __bool__(self) -> bool:
        return bool(self.slow or self.no_gpu)

    def compare(self, unit_s: float, loops_per_s: int, others_loops: Iterable[float]) -> None:
        """Look at the work of a unit here, in loops by the node's own word of its speed, and at what it is elsewhere.

        Fewer than two others prove nothing: one of those may be the one that is wrong.
        """
        others = list(others_loops)
        if unit_s < _UNIT_S_MIN or len(others) < 2:  # as the docstring says
            return
        factor = unit_s * loops_per_s / median(others)
        if factor < _FORGIVEN:
            self._strikes, self.slow = 0, ""
        elif factor > _FACTOR:
            self._strikes += 1
            if self._strikes >= _STRIKES:
                self.slow = f"its units take {factor:.0f} times as long as its word of its speed allows"
