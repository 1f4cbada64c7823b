"""The searches of this node: how many run at a time, whom they ask, and when they end."""

import math
from collections import deque
from collections.abc import Sequence

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.distrust import Distrust
from meshd_node.core.directory.effects import Ask
from meshd_node.core.directory.events import SearchId, VerifiedRecord
from meshd_node.core.directory.lookup import Lookup
from meshd_node.core.directory.queries import Queries
from meshd_node.core.directory.search import Search
from meshd_node.core.directory.table import Table
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.directory import Contact, FindNode, FindValue


class Searches:
    """Runs those that somebody waits for first; those of the background are few at a time."""

    def __init__(self, me: NodeId, table: Table, distrust: Distrust, queries: Queries, config: DirectoryConfig) -> None:
        self._me = me
        self._table = table
        self._distrust = distrust
        self._queries = queries
        self._config = config
        self._running: dict[Search, None] = {}  # in order; a set that remembers it
        self._waiting: deque[Search] = deque()
        self._behind: deque[Search] = deque()

    def add(self, search: Search) -> bool:
        """Run it when there is room; False if too many wait already."""
        queue = self._behind if search.background else self._waiting
        if not search.background and len(queue) >= self._config.waiting_max:
            return False
        queue.append(search)
        return True

    def give_up(self, number: SearchId) -> None:
        """Forget a search; answers to it still tell who lives."""
        for search in (*self._running, *self._waiting):
            if search.number == number:
                self._running.pop(search, None)
                if search in self._waiting:
                    self._waiting.remove(search)

    def answered(
        self, search: Search, lookup: Lookup, node: NodeId, contacts: Sequence[Contact], records: list[VerifiedRecord]
    ) -> None:
        """A node that a lookup asked answered."""
        search.due_at = -math.inf
        lookup.answered(node, contacts, self._distrust.nodes)
        if node not in lookup.liars:
            search.take(node, records, lookup.depth_of(node))

    def failed(self, search: Search, lookup: Lookup, node: NodeId) -> None:
        """A node that a lookup asked can not be reached, or said nothing of worth."""
        search.due_at = -math.inf
        lookup.failed(node)

    def advance(self, now: float) -> tuple[list[Ask], list[Search]]:
        """Ask whom there is to ask; also return the searches that have ended."""
        asks: list[Ask] = []
        ended: list[Search] = []
        self._start(now)
        while self._running:
            due = [search for search in self._running if search.due_at <= now]
            over = [search for search in due if self._advance(search, asks, now)]
            if not over:
                break
            for search in over:
                del self._running[search]
            ended += over
            self._start(now)
        return asks, ended

    def next_at(self) -> float:
        """When to advance though nothing was heard."""
        return min((search.due_at for search in self._running), default=math.inf)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        while self._waiting and len(self._running) < self._config.searches_max:
            self._begin(self._waiting.popleft(), now)
        behind = sum(search.background for search in self._running)
        while self._behind and behind < self._config.background_max and len(self._running) < self._config.searches_max:
            self._begin(self._behind.popleft(), now)
            behind += 1

    def _begin(self, search: Search, now: float) -> None:
        self._running[search] = None
        self._look(search, now)

    def _look(self, search: Search, now: float) -> bool:
        """Begin with the next places of a search; False if there are none."""
        keys = search.next_keys()
        for key in keys:
            paths = self._config.paths if search.thorough else 1
            start = self._table.nearest(key, self._config.k, (self._me,))
            search.lookups.append(Lookup(key, self._me, start, paths, self._config, now))
            self._table.looked_up(key, now)
        return bool(keys)

    def _advance(self, search: Search, asks: list[Ask], now: float) -> bool:
        """Ask for one search; True if it has ended."""
        while not search.satisfied():
            for lookup in search.lookups:
                asks += [self._ask(search, lookup, contact, now) for contact in lookup.ask(now)]
            open_lookups = [lookup for lookup in search.lookups if not lookup.ended(now)]
            if open_lookups:
                search.due_at = min(lookup.next_at(now) for lookup in open_lookups)
                return False
            self._settle(search, now)
            if not self._look(search, now):
                return True
        self._settle(search, now)
        return True

    def _ask(self, search: Search, lookup: Lookup, contact: Contact, now: float) -> Ask:
        search.questions += 1
        number = self._queries.open(contact, now, lookup=(search, lookup))
        message = FindValue(lookup.target) if search.for_records else FindNode(lookup.target)
        return Ask(number, contact, message)

    def _settle(self, search: Search, now: float) -> None:
        for lookup in search.lookups:
            for liar in lookup.liars:
                self._distrust.exposed(liar, now)
                self._table.lost(liar)
            lookup.liars.clear()
