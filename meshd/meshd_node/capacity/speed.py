"""How fast one CPU runs Python, as a hint for placement until measured units say better."""

from collections.abc import Callable
from typing import Final

# Three rounds of 6 ms: long enough to see a CPU at its full clock between two interruptions, and short enough for a
# daemon that has to be ready in half a second. The best round counts: load only ever makes one slower.
ROUNDS: Final = 3
ROUND_S: Final = 0.006
_CHUNK_LOOPS: Final = 2_000


def python_loops_per_s(clock: Callable[[], float], rounds: int = ROUNDS, round_s: float = ROUND_S) -> int:
    """Measure one plain loop with an addition in it; takes `rounds` times `round_s`."""
    return int(max(_round(clock, round_s) for _ in range(rounds)))


def _round(clock: Callable[[], float], round_s: float) -> float:
    began = clock()
    loops = 0
    while (elapsed := clock() - began) < round_s:
        _chunk()
        loops += _CHUNK_LOOPS
    return loops / elapsed


def _chunk() -> int:
    total = 0
    for number in range(_CHUNK_LOOPS):
        total += number
    return total
