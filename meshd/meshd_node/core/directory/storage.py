"""The records that this node keeps for others: what is refused, what displaces what, and when it goes."""

import heapq
import math
from collections import Counter
from collections.abc import Iterator
from typing import Final, TypeAlias

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.events import VerifiedRecord
from meshd_protocol.ids import Key, MeshId, NodeId, record_key
from meshd_protocol.limits import CLOCK_SKEW_S, RECORD_TTL_S_MAX
from meshd_protocol.messages.directory import StoreOutcome
from meshd_protocol.records import DirectoryRecord

# A publisher's certificates are shared by its records: an allowance for what one costs beside its body.
_OVERHEAD_BYTES: Final = 600

_Place: TypeAlias = tuple[Key, NodeId]


def refusal(record: DirectoryRecord, mesh: MeshId, wall: float) -> StoreOutcome | None:
    """What speaks against a record by itself, whoever holds or reads it; None if nothing does."""
    if record.mesh != mesh or (record.kind.one_writer and record.name != record.publisher):
        return StoreOutcome.NOT_YOURS
    ends_in = record.expires_ms / 1_000 - wall
    if ends_in <= 0 or ends_in > RECORD_TTL_S_MAX + CLOCK_SKEW_S:
        return StoreOutcome.OUT_OF_TIME
    return None


def is_better(new: VerifiedRecord, old: VerifiedRecord) -> bool:
    """Which of two records of one publisher stands."""
    return rank(new.record, new.signed.body) > rank(old.record, old.signed.body)


def rank(record: DirectoryRecord, body: bytes) -> tuple[object, ...]:
    """By version, then by expiry, then by the bytes themselves: everybody chooses the same."""
    return (record.version.epoch, record.version.sequence, record.expires_ms, body)


class Storage:
    """Records under their keys, several publishers' side by side."""

    def __init__(self, me: NodeId, config: DirectoryConfig) -> None:
        self._me = me
        self._config = config
        self._records: dict[Key, dict[NodeId, VerifiedRecord]] = {}
        self._counts: Counter[NodeId] = Counter()
        self._size = 0
        self._bytes = 0
        self._ends: list[tuple[float, Key, NodeId]] = []

    def __len__(self) -> int:
        """How many records there are; this node's own among them."""
        return self._size

    def under(self, key: Key) -> list[VerifiedRecord]:
        """All records under a key."""
        return list(self._records.get(key, {}).values())

    def precheck(self, record: DirectoryRecord, body: bytes, salt: int, operator: str) -> StoreOutcome | None:
        """What to answer without a look at the signature; None if that is worth it."""
        if salt >= record.kind.salts:
            return StoreOutcome.NOT_YOURS
        key, publisher = record_key(record.kind, salt, record.name), NodeId(record.publisher)
        held = self._records.get(key, {}).get(publisher)
        if held is not None:
            if held.signed.body == body:
                return StoreOutcome.KEPT
            return None if rank(record, body) > rank(held.record, held.signed.body) else StoreOutcome.OLDER
        return None if self._has_room(key, publisher, operator) else StoreOutcome.FULL

    def keep(self, record: VerifiedRecord, salt: int) -> StoreOutcome:
        """Keep a record that was checked, or say why not."""
        body = record.signed.body
        outcome = self.precheck(record.record, body, salt, record.operator)
        if outcome is not None:
            return outcome
        key, publisher = record_key(record.record.kind, salt, record.record.name), NodeId(record.record.publisher)
        self._remove(key, publisher)
        if publisher != self._me and len(self._records.get(key, {})) >= self._config.key_publishers_max:
            displaced = self._displaced(key, record.operator)
            assert displaced is not None, "the check before found room"
            self._remove(key, displaced)
        self._records.setdefault(key, {})[publisher] = record
        self._counts[publisher] += 1
        self._size += 1
        self._bytes += len(body) + _OVERHEAD_BYTES
        self._plan(record.ends_at, key, publisher)
        return StoreOutcome.KEPT

    def forget(self, publisher: NodeId) -> None:
        """Drop all that a node published."""
        for key in [key for key, records in self._records.items() if publisher in records]:
            self._remove(key, publisher)

    def expire(self, now: float) -> None:
        """Drop what has ended."""
        while self._ends and self._ends[0][0] <= now:
            _, key, publisher = heapq.heappop(self._ends)
            held = self._records.get(key, {}).get(publisher)
            if held is not None and held.ends_at <= now:
                self._remove(key, publisher)

    def next_at(self) -> float:
        """When `expire` may have something to do."""
        return self._ends[0][0] if self._ends else math.inf

    # --- inside ---------------------------------------------------------------------------------------------------

    def _has_room(self, key: Key, publisher: NodeId, operator: str) -> bool:
        if publisher == self._me:
            return True
        config = self._config
        if self._counts[publisher] >= config.publisher_records_max:
            return False
        if len(self._records.get(key, {})) >= config.key_publishers_max:
            return self._displaced(key, operator) is not None
        return self._size < config.records_max and self._bytes < config.record_bytes_max

    def _displaced(self, key: Key, operator: str) -> NodeId | None:
        """Whose record goes for one of `operator`: of the operator that has most here, the one that ends first."""
        records = self._records[key]
        shares = Counter(held.operator for held in records.values())
        most = max(shares, key=lambda name: (shares[name], name))
        if shares[most] <= shares[operator] + 1:
            return None
        theirs = [(held.ends_at, publisher) for publisher, held in records.items() if held.operator == most]
        return min(theirs)[1]

    def _remove(self, key: Key, publisher: NodeId) -> None:
        records = self._records.get(key, {})
        record = records.pop(publisher, None)
        if record is None:
            return
        if not records:
            del self._records[key]
        self._bytes -= len(record.signed.body) + _OVERHEAD_BYTES
        self._size -= 1
        self._counts[publisher] -= 1
        if not self._counts[publisher]:
            del self._counts[publisher]

    def _plan(self, at: float, key: Key, publisher: NodeId) -> None:
        """Times of records that are gone stay in the heap until it is built anew: at most as many as there are."""
        heapq.heappush(self._ends, (at, key, publisher))
        if len(self._ends) > 2 * self._size + 16:
            self._ends = [(held.ends_at, *place) for place, held in self._all()]
            heapq.heapify(self._ends)

    def _all(self) -> Iterator[tuple[_Place, VerifiedRecord]]:
        for key, records in self._records.items():
            for publisher, held in records.items():
                yield (key, publisher), held
