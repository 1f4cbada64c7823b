"""The directory of one node: answers what others ask, finds what it is asked to, keeps its own records published."""

import itertools
import math
import random
from collections import deque
from collections.abc import Iterable
from typing import assert_never

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.distrust import Distrust
from meshd_node.core.directory.effects import Ask, Effect, LookupEnded, RecordPublished, Reply, SignRecord, Wake
from meshd_node.core.directory.events import (
    Answered,
    ContactLost,
    ContactSeen,
    Event,
    GiveUp,
    LookUpNodes,
    LookUpRecords,
    PublishRecord,
    QueryFailed,
    RecordSigned,
    RequestArrived,
    StoreArrived,
    Tick,
    VerifiedRecord,
    WithdrawRecord,
)
from meshd_node.core.directory.publishing import Placing, Publication, Publications
from meshd_node.core.directory.queries import Queries, Query
from meshd_node.core.directory.search import Search
from meshd_node.core.directory.searches import Searches
from meshd_node.core.directory.settling import Settling
from meshd_node.core.directory.storage import Storage
from meshd_node.core.directory.table import Table
from meshd_protocol.ids import Key, NodeId, record_key
from meshd_protocol.limits import RECORDS_PER_MESSAGE_MAX
from meshd_protocol.messages.directory import (
    Contact,
    Contacts,
    FindNode,
    FindValue,
    Store,
    Stored,
    StoreOutcome,
    Values,
)
from meshd_protocol.records import DirectoryRecord


class Directory:
    """One node's part of the directory. What comes in by `handle` was checked by the shell."""

    def __init__(self, node: NodeId, rng: random.Random, config: DirectoryConfig, now: float = 0.0) -> None:
        self._node = node
        self._rng = rng
        self._config = config
        self._table = Table(node, config, now)
        self._distrust = Distrust(config)
        self._storage = Storage(node, config)
        self._queries = Queries(config)
        self._searches = Searches(node, self._table, self._distrust, self._queries, config)
        self._publications = Publications(rng, config)
        self._own_numbers = itertools.count(-1, -1)
        self._settling = Settling(rng, config)
        self._wake_at = math.inf

    # --- what the shell asks --------------------------------------------------------------------------------------

    def precheck(self, record: DirectoryRecord, body: bytes, salt: int, operator: str) -> StoreOutcome | None:
        """What to answer to a `Store` without a look at its signature; None if that is worth it."""
        return self._storage.precheck(record, body, salt, operator)

    def wanted(self, query: int, record: DirectoryRecord) -> bool:
        """Whether a record in an answer belongs under the key that was asked for."""
        asked = self._queries.get(query)
        if asked is None or asked.lookup is None:
            return False
        _, lookup = asked.lookup
        return any(record_key(record.kind, salt, record.name) == lookup.target for salt in range(record.kind.salts))

    def contact(self, node: NodeId) -> Contact | None:
        """Where a node was last reached, if the routing table has it."""
        return self._table.contact(node)

    def nearest(self, place: Key, asker: NodeId) -> list[Contact]:
        """The nearest contacts to a place that whoever asks may be told."""
        return self._table.nearest(place, self._config.k, (asker,))

    def contacts(self) -> int:
        """How many nodes the routing table has."""
        return len(self._table)

    def records(self) -> int:
        """How many records this node keeps."""
        return len(self._storage)

    # --- events ---------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Apply one event; return what the shell must do, in order."""
        match event:
            case RequestArrived(sender, stream, message):
                return [Reply(sender, stream, self._answer(sender, message, now))]
            case StoreArrived(sender, stream, salt, record):
                self._storage.expire(now)
                return [Reply(sender, stream, Stored(self._storage.keep(record, salt))), *self._next_wake()]
            case ContactSeen(contact):
                effects = self._seen(contact, now)
            case ContactLost(node, revoked):
                self._table.lost(node)
                if revoked:
                    self._storage.forget(node)
                effects = []
            case Answered():
                effects = self._answered(event, now)
            case QueryFailed(number):
                effects = self._failed(self._queries.close(number), now)
            case LookUpNodes(number, target):
                effects = self._begin(Search(number, deque([target]), now))
            case LookUpRecords():
                effects = self._look_up_records(event, now)
            case GiveUp(number):
                self._searches.give_up(number)
                effects = []
            case PublishRecord(kind, name, value):
                self._publications.put(kind, name, value, now if self._settling.settled else math.inf)
                effects = []
            case WithdrawRecord(kind, name):
                self._publications.drop(kind, name)
                effects = []
            case RecordSigned(record):
                effects = self._place(record, now)
            case Tick():
                self._wake_at = math.inf
                effects = self._tick(now)
            case _:
                assert_never(event)
        return [*effects, *self._advance(now), *self._next_wake()]

    # --- questions of others --------------------------------------------------------------------------------------

    def _answer(self, sender: NodeId, message: FindNode | FindValue, now: float) -> Contacts | Values:
        match message:
            case FindNode(target):
                return Contacts(self.nearest(target, sender))
            case FindValue(key):
                self._storage.expire(now)
                held = self._storage.under(key)
                if len(held) > RECORDS_PER_MESSAGE_MAX:
                    held = self._rng.sample(held, RECORDS_PER_MESSAGE_MAX)
                return Values([record.signed for record in held], self.nearest(key, sender))
            case _:
                assert_never(message)

    # --- contacts -------------------------------------------------------------------------------------------------

    def _seen(self, contact: Contact, now: float) -> list[Effect]:
        self._distrust.expire(now)
        if contact.node in self._distrust.nodes:
            return []
        oldest = self._table.seen(contact, now)
        self._settling.grown(len(self._table), now)
        if oldest is None:
            return []
        return [Ask(self._queries.open(oldest, now), oldest, FindNode(Key(self._node)))]

    # --- answers of others ----------------------------------------------------------------------------------------

    def _answered(self, event: Answered, now: float) -> list[Effect]:
        query = self._queries.close(event.query, event.sender)
        if query is None:
            return []
        if event.forged:
            self._distrust.forged(query.node, now)
            self._table.lost(query.node)
        if event.forged or not query.fits(event.message):
            return self._failed(query, now)
        effects = self._seen(query.contact, now)
        if query.publication is not None and isinstance(event.message, Stored):
            query.publication.copies += event.message.outcome is StoreOutcome.KEPT
            effects += self._stored(query.publication, now)
        elif query.lookup is not None and isinstance(event.message, Contacts | Values):
            self._searches.answered(*query.lookup, query.node, event.message.contacts, event.records)
        return effects

    def _failed(self, query: Query | None, now: float) -> list[Effect]:
        if query is None:
            return []
        self._table.struck(query.node)
        if query.lookup is not None:
            self._searches.failed(*query.lookup, query.node)
        return [] if query.publication is None else self._stored(query.publication, now)

    # --- searches -------------------------------------------------------------------------------------------------

    def _look_up_records(self, event: LookUpRecords, now: float) -> list[Effect]:
        keys = [record_key(event.kind, salt, event.name) for salt in range(event.kind.salts)]
        voices = self._config.voices
        search = Search(event.search, deque(keys), now, for_records=True, voices=voices, thorough=event.thorough)
        self._storage.expire(now)
        # All salts of what is held here are one voice.
        search.take(self._node, [record for key in keys for record in self._storage.under(key)], 0)
        return self._begin(search)

    def _begin(self, search: Search) -> list[Effect]:
        return [] if self._searches.add(search) else [LookupEnded(search.number, [], [], [], 0, 0, 0.0)]

    def _advance(self, now: float) -> list[Effect]:
        asks, ended = self._searches.advance(now)
        effects: list[Effect] = list(asks)
        for search in ended:
            effects += self._ended(search, now)
        return effects

    def _ended(self, search: Search, now: float) -> list[Effect]:
        if search.placing is not None:
            return self._store(search.placing, search.answerers(), now)
        if search.around:
            self._publications.hurry(now)
            return self._publish_due(now)
        if search.background:
            return []
        return [search.outcome(now)]

    def _look_into(self, places: Iterable[Key], now: float) -> None:
        for place in places:
            self._searches.add(Search(next(self._own_numbers), deque([place]), now, background=True))

    # --- what this node publishes ---------------------------------------------------------------------------------

    def _publish_due(self, now: float) -> list[Effect]:
        return [
            SignRecord(each.kind, each.name, each.value, self._config.ttl_s) for each in self._publications.due(now)
        ]

    def _place(self, record: VerifiedRecord, now: float) -> list[Effect]:
        """Keep it here, and look for the nodes nearest to each of its places."""
        kind, name = record.record.kind, record.record.name
        publication = self._publications.get(kind, name)
        if publication is None:
            return []
        for salt in range(kind.salts):
            self._storage.keep(record, salt)
            placing = Placing(publication, record, salt)
            keys = deque([record_key(kind, salt, name)])
            self._searches.add(Search(next(self._own_numbers), keys, now, placing=placing, background=True))
            publication.open_places += 1
        return []

    def _store(self, placing: Placing, nearest: list[Contact], now: float) -> list[Effect]:
        publication, signed = placing.publication, placing.record.signed
        publication.open_places -= 1
        publication.open_stores += len(nearest)
        effects: list[Effect] = []
        for contact in nearest:
            number = self._queries.open(contact, now, publication=publication)
            effects.append(Ask(number, contact, Store(placing.salt, signed.body, signed.signature)))
        return [*effects, *self._told(publication, now)]

    def _stored(self, publication: Publication, now: float) -> list[Effect]:
        publication.open_stores -= 1
        return self._told(publication, now)

    def _told(self, publication: Publication, now: float) -> list[Effect]:
        if publication.on_its_way:
            return []
        self._publications.ended(publication, now)
        return [RecordPublished(publication.kind, publication.name, publication.copies)]

    # --- time -----------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> list[Effect]:
        self._storage.expire(now)
        self._distrust.expire(now)
        effects = [effect for query in self._queries.close_due(now) for effect in self._failed(query, now)]
        if self._settling.due(len(self._table), now):
            place = deque([Key(self._node)])
            self._searches.add(Search(next(self._own_numbers), place, now, background=True, around=True))
        self._look_into(self._table.lonely(self._rng, now), now)
        return [*effects, *self._publish_due(now)]

    def _next_wake(self) -> list[Effect]:
        at = min(
            self._searches.next_at(),
            self._queries.next_at(),
            self._publications.next_at(),
            self._storage.next_at(),
            self._settling.at,
            self._table.next_lonely_at(),
        )
        if at == self._wake_at:
            return []
        self._wake_at = at
        return [Wake(at)]
