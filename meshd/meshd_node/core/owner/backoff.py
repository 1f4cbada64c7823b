"""Which nodes would not run a job, and how long they are left in peace: no refusal may become a loop."""

from meshd_node.core.owner.config import OwnerConfig
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import REASON_CHARS_MAX


class Backoff:
    """The nodes that refused one job, or keep handing its units back."""

    __slots__ = ("_config", "_delay", "_hand_backs", "_reasons", "_until")

    def __init__(self, config: OwnerConfig) -> None:
        self._config = config
        self._until: dict[NodeId, float] = {}
        self._delay: dict[NodeId, float] = {}
        self._hand_backs: dict[NodeId, int] = {}
        self._reasons: dict[NodeId, str] = {}

    def __bool__(self) -> bool:
        return bool(self._delay or self._hand_backs)

    def refused(self, node: NodeId, reason: str, now: float) -> float:
        """Leave a node alone, each time for twice as long; return until when."""
        self._reasons[node] = reason[:REASON_CHARS_MAX]
        if self.bars(node, now):
            return self._until[node]  # the rest of a batch that was refused as a whole
        delay = min(self._delay.get(node, self._config.backoff_min_s / 2) * 2, self._config.backoff_max_s)
        self._delay[node] = delay
        self._until[node] = now + delay
        return now + delay

    def handed_back(self, node: NodeId, reason: str, now: float) -> float | None:
        """Count one batch that came back; return until when the node is left alone, if it is."""
        count = self._hand_backs[node] = self._hand_backs.get(node, 0) + 1
        return self.refused(node, reason, now) if count > self._config.hand_backs_free else None

    def forgive(self, node: NodeId) -> None:
        """A node gave a result."""
        self._until.pop(node, None)
        self._delay.pop(node, None)
        self._hand_backs.pop(node, None)
        self._reasons.pop(node, None)

    def bars(self, node: NodeId, now: float) -> bool:
        """Whether a node is left alone at this time."""
        return self._until.get(node, now) > now

    def reason(self, node: NodeId) -> str:
        """Why a node did not want the job, in its own words."""
        return self._reasons.get(node, "")

    def until(self, node: NodeId) -> float:
        """When a node was or will be asked again."""
        return self._until.get(node, 0.0)
