"""Where the owner's decisions are written down: a seam, with the twin in memory that is used until jobs are durable."""

from collections import deque
from typing import Final, Protocol

from meshd_node.core.owner.journal import Entry

# An entry names at most 256 units of about 100 bytes each: 25 MB at most.
_ENTRIES_KEPT: Final = 1024


class JournalStore(Protocol):
    """Takes decisions before they are acted on."""

    def append(self, entries: list[Entry]) -> None:
        """Write these down, in order; return when a crash can not lose them any more."""
        ...


class MemoryJournal:
    """The newest decisions, for as long as the daemon lives."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=_ENTRIES_KEPT)

    def append(self, entries: list[Entry]) -> None:
        """Keep the newest."""
        self.entries.extend(entries)
