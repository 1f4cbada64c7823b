"""Virtual time: a heap of what happens when, and the streams of chance. Same seed, same run."""

import gc
import heapq
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

# What happens, and to what. `Any`: the heap does not care, and the pair is made in one place by whoever knows both.
Action: TypeAlias = Callable[[Any], None]

# Times that machines wish for are rounded up to 1/2**20 s: libraries for logarithms differ in the last bit, and one bit
# would be another run.
_GRAIN: Final = float(1 << 20)


class Engine:
    """One world's clock. Things of one instant happen in the order in which they were planned."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.events = 0
        self._serial = 0
        self._queue: list[tuple[float, int, Action, Any]] = []

    def stream(self, purpose: str) -> random.Random:
        """Chance for one purpose: what one part of the world draws changes nothing for another."""
        return random.Random(f"{self.seed}/{purpose}")  # noqa: S311 - repeatable is what it has to be

    def at(self, when: float, action: Action, subject: Any) -> None:
        """Plan `action(subject)`; the past is now."""
        self._serial += 1
        heapq.heappush(self._queue, (when if when > self.now else self.now, self._serial, action, subject))

    def after(self, delay: float, action: Action, subject: Any) -> None:
        """Plan `action(subject)` in `delay` seconds."""
        self._serial += 1
        heapq.heappush(self._queue, (self.now + delay, self._serial, action, subject))

    def run(self, until: float) -> None:
        """Let everything happen up to and at `until`."""
        queue, pop, events = self._queue, heapq.heappop, 0
        with no_garbage_collection():
            while queue and queue[0][0] <= until:
                self.now, _, action, subject = pop(queue)
                action(subject)
                events += 1
        self.events += events
        self.now = until


def grain(when: float) -> float:
    """The same time on every machine; a little later than `when`, so that a clock which is read then shows it."""
    return (math.floor(when * _GRAIN) + 2) / _GRAIN


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A pass over the views of thousands of nodes takes longer than all that happens between two passes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
