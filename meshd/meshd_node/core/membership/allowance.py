"""What each peer may make this node send: a few bytes from it must not cost us megabytes."""

from typing import Final

from meshd_protocol.ids import NodeId

# A newcomer has several peers: 20 of them give it a view of 10,000 members, 10 MB, in 8 s.
_BYTES_PER_S: Final = 65_536
_BURST_BYTES: Final = 262_144


class Allowance:
    """Bytes that peers may still ask for. Those that have not asked for some seconds are forgotten: they have all."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: dict[NodeId, tuple[float, float]] = {}

    def left(self, peer: NodeId, now: float) -> int:
        """How many bytes this peer may be sent now."""
        left, at = self._left.get(peer, (_BURST_BYTES, now))
        return int(min(_BURST_BYTES, left + (now - at) * _BYTES_PER_S))

    def spend(self, peer: NodeId, size: int, now: float) -> None:
        """Count what it is sent."""
        self._left[peer] = (self.left(peer, now) - size, now)

    def forget(self, peer: NodeId) -> None:
        """Its session has ended."""
        self._left.pop(peer, None)
