"""What a peer may say beside work: as much as it likes for a while, then at a pace, and not for long at that."""

from typing import Final

from meshd_node.core.allowance import Allowance
from meshd_node.net.config import NetConfig
from meshd_node.net.errors import PeerFloods
from meshd_protocol.framing import Frame
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import KIB
from meshd_protocol.messages.peer import Slice

# A frame is so much work as it has bytes of this many, and one: either takes about 23 us.
_WORK_BYTES: Final = 128
# Messages of jobs are bounded by what was granted, slices by the message that they make. Spec: 08-peer.md, section 5.
_NO_TALK: Final = frozenset({Slice.KIND, *range(0x30, 0x40)})


def weight(frame: Frame) -> int:
    """How much work a frame makes."""
    return 1 + len(frame.body) // _WORK_BYTES


class Talk:
    """One session's part of what its peer may say: `allowances` outlives it, since hanging up must not fill it."""

    def __init__(self, peer: NodeId, allowances: Allowance, config: NetConfig) -> None:
        self._peer = peer
        self._allowances = allowances
        self._per_s = config.talk_per_s
        self._quarter = config.talk_burst // 4
        self._patience_s = config.talk_patience_s
        self._heard = 0
        self._paused_s = 0.0

    def hear(self, frame: Frame) -> None:
        """Count one frame, unless it belongs to a job."""
        if frame.kind not in _NO_TALK:
            self._heard += weight(frame)

    def pause_s(self, now: float) -> float:
        """For how long to read nothing after what was heard since this was last asked.

        Raise `PeerFloods` if the peer was waited for too long since a quarter of its allowance was last there.
        """
        if not self._heard:
            return 0.0
        heard, self._heard = self._heard, 0
        left = self._allowances.left(self._peer, now)
        if left >= self._quarter:
            self._paused_s = 0.0
        self._allowances.spend(self._peer, heard, now)
        pause_s = max(0.0, (heard - left) / self._per_s)
        self._paused_s += pause_s
        if self._paused_s > self._patience_s:
            raise PeerFloods(
                f"too much that is no work: {self._per_s} messages or {self._per_s * _WORK_BYTES // KIB} KiB a second "
                f"are allowed, and more came for {self._patience_s:.0f} s; look at what runs as that node"
            )
        return pause_s
