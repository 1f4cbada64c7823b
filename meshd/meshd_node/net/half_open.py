"""Connections that have not said who they are yet: few, not for long, and the oldest goes first."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import trio


class HalfOpen:
    """Places for handshakes. A newcomer takes the place of the oldest: an honest handshake takes milliseconds."""

    def __init__(self, places: int, timeout_s: float) -> None:
        self._places = places
        self._timeout_s = timeout_s
        self._scopes: OrderedDict[int, trio.CancelScope] = OrderedDict()
        self._next = 0

    @contextmanager
    def place(self) -> Iterator[trio.CancelScope]:
        """Hold a place; the scope is cancelled when the time is over or somebody else needs the place."""
        if len(self._scopes) >= self._places:
            _, oldest = self._scopes.popitem(last=False)
            oldest.cancel()
        self._next += 1
        number = self._next
        with trio.move_on_after(self._timeout_s) as scope:
            self._scopes[number] = scope
            try:
                yield scope
            finally:
                self._scopes.pop(number, None)
