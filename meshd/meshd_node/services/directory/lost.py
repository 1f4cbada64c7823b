"""Members that can not be reached where they were: when to look for them, and how many at a time."""

from typing import Final

from meshd_protocol.ids import NodeId

# Membership dials the dead again and again; the directory is asked now and then.
PAUSE_S: Final = 300.0
AT_ONCE: Final = 4
_KEPT: Final = 1_000


class Lost:
    """Who was looked for, and when."""

    def __init__(self) -> None:
        self._looked_at: dict[NodeId, float] = {}
        self._under_way: set[NodeId] = set()

    def may_look(self, node: NodeId, now: float) -> bool:
        """Whether to look for a node now; `found` ends it."""
        looked_at = self._looked_at.get(node)
        if len(self._under_way) >= AT_ONCE or (looked_at is not None and now < looked_at + PAUSE_S):
            return False
        self._looked_at.pop(node, None)
        self._looked_at[node] = now
        if len(self._looked_at) > _KEPT:
            del self._looked_at[next(iter(self._looked_at))]
        self._under_way.add(node)
        return True

    def found(self, node: NodeId) -> None:
        """The search for it has ended, one way or the other."""
        self._under_way.discard(node)

    def seen(self, node: NodeId) -> None:
        """It is there: look at once when it is lost again."""
        self._looked_at.pop(node, None)
