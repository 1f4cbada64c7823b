"""A bound on what this node sends in large messages, all its links together: a bucket of bytes that fills by time."""

from collections.abc import Callable
from typing import Final

from meshd_protocol.limits import KIB, SLICE_BYTES_MAX

# A slice takes about so long to leave: others have their turn after it.
_SLICE_S: Final = 0.1
_SLICE_BYTES_MIN: Final = 16 * KIB
# What was not sent may be made up for within so long.
_BURST_S: Final = 0.5


class Throttle:
    """Whoever sends spends; the bucket may fall below empty by one slice, and nobody sends until it is full again."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Bound nothing."""
        self._monotonic = monotonic
        self._bytes_per_s = 0.0
        self._bytes = 0.0
        self._filled_at = 0.0
        self.slice_bytes = SLICE_BYTES_MAX

    def limit(self, bytes_per_s: float) -> None:
        """Send no faster than that from now on; 0 is no bound."""
        self._bytes_per_s = bytes_per_s
        self._bytes, self._filled_at = 0.0, self._monotonic()
        wished = int(bytes_per_s * _SLICE_S) if bytes_per_s else SLICE_BYTES_MAX
        self.slice_bytes = min(max(wished, _SLICE_BYTES_MIN), SLICE_BYTES_MAX)

    def pause_s(self) -> float:
        """How long to wait before the next slice; 0 if it may leave now."""
        if not self._bytes_per_s:
            return 0.0
        now = self._monotonic()
        self._bytes += (now - self._filled_at) * self._bytes_per_s
        self._bytes = min(self._bytes, self._bytes_per_s * _BURST_S)
        self._filled_at = now
        return max(0.0, -self._bytes / self._bytes_per_s)

    def spend(self, size: int) -> None:
        """Count what leaves."""
        if self._bytes_per_s:
            self._bytes -= size
