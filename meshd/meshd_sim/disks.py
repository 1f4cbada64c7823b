"""What a node keeps when its process ends, and what is left of it after a bad end."""

from enum import Enum


class Damage(Enum):
    """What a crash leaves of a disk. Torn: what was written since the last sync is gone."""

    KEPT = "kept"
    TORN = "torn"
    LOST = "lost"


class Disk:
    """Named values. What was not synced may be gone after a crash; what was, only if the whole disk is."""

    def __init__(self) -> None:
        self._synced: dict[str, object] = {}
        self._written: dict[str, object] = {}

    def read(self, name: str) -> object | None:
        """The value of a name, None if there is none."""
        return self._written.get(name, self._synced.get(name))

    def write(self, name: str, value: object) -> None:
        """Give a name a value, which is not safe yet."""
        self._written[name] = value

    def sync(self) -> None:
        """Make everything that was written safe."""
        self._synced |= self._written
        self._written.clear()

    def crash(self, damage: Damage) -> None:
        """The process, or its machine, ends at this moment."""
        if damage is Damage.KEPT:
            self.sync()
        self._written.clear()
        if damage is Damage.LOST:
            self._synced.clear()
