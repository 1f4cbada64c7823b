"""Members that can not be reached where they were: when to look for them, and how many at a time."""

from typing import Final

from meshd_protocol.ids import NodeId

# Membership dials the dead again and again. The directory is asked when one is lost, and then ever more seldom: a mesh
# in which hundreds have died must not look for all of them for ever.
PAUSE_FIRST_S: Final = 60.0
PAUSE_LAST_S: Final = 6 * 3_600.0
AT_ONCE: Final = 4
_KEPT: Final = 1_000


class Lost:
    """Who was looked for, until when that is enough, and for how long the next time."""

    def __init__(self) -> None:
        self._pauses: dict[NodeId, tuple[float, float]] = {}
        self._under_way: set[NodeId] = set()

    def may_look(self, node: NodeId, now: float) -> bool:
        """Whether to look for a node now; `found` ends it."""
        until, pause = self._pauses.get(node, (now, PAUSE_FIRST_S))
        if now < until or len(self._under_way) >= AT_ONCE or node in self._under_way:
            return False
        self._pauses.pop(node, None)
        self._pauses[node] = (now + pause, min(PAUSE_LAST_S, 2 * pause))
        if len(self._pauses) > _KEPT:
            del self._pauses[next(iter(self._pauses))]
        self._under_way.add(node)
        return True

    def found(self, node: NodeId) -> None:
        """The search for it has ended, one way or the other."""
        self._under_way.discard(node)

    def seen(self, node: NodeId) -> None:
        """It is there: look at once when it is lost again."""
        self._pauses.pop(node, None)
