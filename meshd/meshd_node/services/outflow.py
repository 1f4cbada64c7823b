"""What was written in this turn of the daemon leaves at its end, together."""

from collections.abc import Callable
from typing import Protocol


class Flushable(Protocol):
    """Something with a queue of bytes to be sent."""

    def flush(self) -> None:
        """Send what is queued, without blocking."""
        ...


class Outflow:
    """Remembers who was written to. Whoever lets something into the daemon calls `flush` when all of it is handled."""

    def __init__(self) -> None:
        self._written: dict[Flushable, None] = {}
        self._flush_links: Callable[[], None] = lambda: None

    def connect(self, flush_links: Callable[[], None]) -> None:
        """Hand in the transport, which remembers its own links."""
        self._flush_links = flush_links

    def written(self, to: Flushable) -> None:
        """Something was queued for `to`."""
        self._written[to] = None

    def flush(self) -> None:
        """Send all that was queued since the last call."""
        self._flush_links()
        written, self._written = self._written, {}
        for each in written:
            each.flush()
