"""Work whose Python environment is not there yet, and which environments are."""

from collections import deque
from collections.abc import Collection, Iterable

from meshd_node.core.executor.backlog import Share, Stretch, key_of
from meshd_node.core.executor.events import LeasedWork


class Anteroom:
    """Of each environment's work only as much waits here as would run at once.

    More would fill its owner's window, in which other work could run meanwhile, and keep units from nodes that have the
    environment already.
    """

    def __init__(self) -> None:
        """Start with no environment but the empty one, which is the node's own."""
        self._ready: set[bytes] = {b""}
        self._waiting: dict[bytes, list[Stretch]] = {}

    def is_open(self, environment: bytes) -> bool:
        """Whether work that needs it may start."""
        return environment in self._ready

    def expects(self, environment: bytes) -> bool:
        """Whether work waits for it."""
        return environment in self._waiting

    @property
    def count(self) -> int:
        """Units that wait."""
        return sum(len(stretch.works) for stretches in self._waiting.values() for stretch in stretches)

    def enter(self, share: Share, works: list[LeasedWork], places: int) -> list[LeasedWork]:
        """Let work wait while fewer than `places` units do; return what finds no place."""
        stretches = self._waiting.setdefault(share.tenant.harness.environment, [])
        free = max(0, places - sum(len(stretch.works) for stretch in stretches))
        if works[:free]:
            stretches.append(Stretch(share, deque(works[:free])))
        return works[free:]

    def open(self, environment: bytes) -> list[Stretch]:
        """It is there: return what waited for it."""
        self._ready.add(environment)
        return self.clear(environment)

    def close(self, environment: bytes) -> None:
        """It is not there any more."""
        self._ready.discard(environment)

    def clear(self, environment: bytes) -> list[Stretch]:
        """Take out what waits for one environment."""
        return self._waiting.pop(environment, [])

    def clear_all(self) -> Iterable[Stretch]:
        """Take out all that waits. Its environments are still asked for."""
        for stretches in self._waiting.values():
            yield from stretches
            stretches.clear()

    def remove(self, share: Share, keys: Collection[int] | None) -> list[LeasedWork]:
        """Take out a share's work; None is all of it."""
        removed: list[LeasedWork] = []
        for stretch in self._waiting.get(share.tenant.harness.environment, []):
            if stretch.share is share:
                taken = [work for work in stretch.works if keys is None or key_of(work) in keys]
                removed += taken
                for work in taken:
                    stretch.works.remove(work)
        return removed
