"""A bound on what one peer may make us do."""


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
