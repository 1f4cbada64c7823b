"""Entering a machine while its last effects are still being performed: the event waits its turn."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

EventT = TypeVar("EventT")


class OneAtATime(Generic[EventT]):
    """Applies events in the order of their arrival, each one wholly before the next.

    Performing an effect may call another service which answers at once, with an event for this one. Applied inside,
    its effects would overtake those that are left; a later `Wake` would be replaced by an earlier one.
    """

    def __init__(self, apply: Callable[[EventT], None]) -> None:
        self._apply = apply
        self._waiting: deque[EventT] = deque()
        self._busy = False

    def __call__(self, event: EventT) -> None:
        """Apply `event` now, or after what is being applied."""
        self._waiting.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._waiting:
                self._apply(self._waiting.popleft())
        finally:
            self._busy = False
