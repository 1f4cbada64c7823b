"""What each peer may make this node send and look at: a few bytes from it must not cost us megabytes, or seconds."""

import math
from typing import Final

from meshd_protocol.ids import NodeId

# A newcomer has several peers: 20 of them give it a view of 10,000 members, 10 MB, in 8 s.
_BYTES_PER_S: Final = 65_536
_BURST_BYTES: Final = 262_144


class Allowance:
    """Bytes that peers may still ask for, or whatever else is counted: `burst` at once, `per_s` from then on.

    It outlives a session, since hanging up must not fill it. A peer that may ask for all of it again is forgotten.
    """

    __slots__ = ("_burst", "_left", "_look_at", "_per_s")

    def __init__(self, per_s: float = _BYTES_PER_S, burst: int = _BURST_BYTES) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left: dict[NodeId, tuple[int, float]] = {}
        # When those are looked for who can be forgotten: none can sooner.
        self._look_at = -math.inf

    def __len__(self) -> int:
        """How many peers are remembered."""
        return len(self._left)

    def left(self, peer: NodeId, now: float) -> int:
        """How much this peer may still ask for now."""
        known = self._left.get(peer)
        if known is None:
            return self._burst
        left, at = known
        refilled = left + (now - at) * self._per_s
        return int(refilled) if refilled < self._burst else self._burst

    def spend(self, peer: NodeId, size: int, now: float) -> None:
        """Count what it is given."""
        if now >= self._look_at:
            self._forget(now)
        self._left[peer] = (self.left(peer, now) - size, now)

    def take(self, peer: NodeId, most: int, now: float) -> int:
        """Spend as much of `most` as there is; return how much that was."""
        if now >= self._look_at:
            self._forget(now)
        left = self.left(peer, now)
        taken = most if most <= left else max(0, left)
        self._left[peer] = (left - taken, now)
        return taken

    def _forget(self, now: float) -> None:
        self._left = {peer: known for peer, known in self._left.items() if self.left(peer, now) < self._burst}
        self._look_at = now + self._burst / self._per_s
