"""Questions that nobody has answered yet."""

import math
from dataclasses import dataclass

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.lookup import Lookup
from meshd_node.core.directory.publishing import Publication
from meshd_node.core.directory.search import Search
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.directory import Contact, Contacts, Stored, Values

# A query's number is its stream on the wire.
_STREAMS = 1 << 32


@dataclass(frozen=True, slots=True)
class Query:
    """One question. What it is for is None where only a sign of life was asked for."""

    contact: Contact
    until: float
    lookup: tuple[Search, Lookup] | None = None
    publication: Publication | None = None

    @property
    def node(self) -> NodeId:
        """Who was asked."""
        return NodeId(self.contact.node)

    def fits(self, answer: Contacts | Values | Stored) -> bool:
        """Whether this is the sort of answer that was asked for."""
        if self.publication is not None:
            return isinstance(answer, Stored)
        for_records = self.lookup is not None and self.lookup[0].for_records
        return isinstance(answer, Values if for_records else Contacts)


class Queries:
    """All of them, the oldest first: each waits as long as every other."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._config = config
        self._open: dict[int, Query] = {}
        self._serial = 0

    def open(
        self,
        contact: Contact,
        now: float,
        *,
        lookup: tuple[Search, Lookup] | None = None,
        publication: Publication | None = None,
    ) -> int:
        """Number a new one. So many are open at most as searches can have, so that no number is in use twice."""
        self._serial = (self._serial + 1) % _STREAMS
        self._open[self._serial] = Query(contact, now + self._config.answer_s, lookup, publication)
        return self._serial

    def get(self, number: int) -> Query | None:
        """One that is open."""
        return self._open.get(number)

    def close(self, number: int, sender: NodeId | None = None) -> Query | None:
        """End one; nothing happens if another node than the asked one speaks, or it ended before."""
        query = self._open.get(number)
        if query is None or sender not in (None, query.node):
            return None
        return self._open.pop(number)

    def close_due(self, now: float) -> list[Query]:
        """End those that have waited too long."""
        due = []
        while self._open and self.next_at() <= now:
            due.append(self._open.pop(next(iter(self._open))))
        return due

    def next_at(self) -> float:
        """When the oldest has waited too long."""
        return next(iter(self._open.values())).until if self._open else math.inf
