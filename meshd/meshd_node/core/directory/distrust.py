"""Nodes that nobody should listen to for a while: exposed again and again as naming contacts that do not exist."""

from meshd_node.core.directory.config import DirectoryConfig
from meshd_protocol.ids import NodeId


class Distrust:
    """Who was exposed how often, and until when that counts; the oldest go first when there are too many."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._config = config
        self._exposed: dict[NodeId, tuple[int, float]] = {}
        self.nodes: set[NodeId] = set()

    def exposed(self, node: NodeId, now: float) -> None:
        """Count one search that exposed it."""
        self._count(node, self._exposed.pop(node, (0, 0.0))[0] + 1, now)

    def forged(self, node: NodeId, now: float) -> None:
        """Distrust it at once: it handed out a record that nobody signed."""
        self._exposed.pop(node, None)
        self._count(node, self._config.exposures, now)

    def expire(self, now: float) -> None:
        """Forget what is over."""
        while self._exposed:
            node, (_, until) = next(iter(self._exposed.items()))
            if until > now and len(self._exposed) <= self._config.distrusted_max:
                return
            del self._exposed[node]
            self.nodes.discard(node)

    def _count(self, node: NodeId, times: int, now: float) -> None:
        self._exposed[node] = (times, now + self._config.distrust_s)
        if times >= self._config.exposures:
            self.nodes.add(node)
        self.expire(now)
