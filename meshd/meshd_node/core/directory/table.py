"""The routing table: Kademlia's buckets as the package `kademlia` has them, corrected where they are wrong.

What was wrong is shown fault by fault in tests/node/directory/test_kademlia_parent.py. Time is an argument, nothing
awaits, and a contact is one that can be reached: hints of others do not get in here.
"""

import random
from bisect import bisect_left
from collections.abc import Collection, Iterator
from typing import Final

from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from meshd_node.core.directory.config import DirectoryConfig
from meshd_protocol.ids import ID_BYTES, Key, NodeId
from meshd_protocol.messages.directory import Contact

_BITS: Final = 8 * ID_BYTES


class Known(Node):  # type: ignore[misc]  # the package has no types
    """A contact at its place. `strikes` counts questions in a row that it did not answer."""

    def __init__(self, contact: Contact, seen_at: float) -> None:
        super().__init__(contact.node)
        self.contact = contact
        self.seen_at = seen_at
        self.strikes = 0


class Bucket(KBucket):  # type: ignore[misc]
    """Contacts of one range, the least recently seen first, and as many more that take the place of one that goes."""

    def __init__(self, lower: int, upper: int, ksize: int, looked_at: float) -> None:
        self.last_updated = looked_at
        self._lower, self._width = lower, upper - lower
        super().__init__(lower, upper, ksize, replacementNodeFactor=1)

    def touch_last_updated(self) -> None:
        """Nothing: the parent reads a clock here."""

    def split(self) -> tuple["Bucket", "Bucket"]:
        """Halve the range; neither the order of contacts nor the time of the last look is lost."""
        lower, upper = self.range
        middle = (lower + upper) // 2
        halves = (
            Bucket(lower, middle, self.ksize, self.last_updated),
            Bucket(middle + 1, upper, self.ksize, self.last_updated),
        )
        # What waited came in last; in a half with room it counts as newest there.
        for node in (*self.nodes.values(), *self.replacement_nodes.values()):
            halves[node.long_id > middle].add_node(node)
        return halves

    def add_node(self, node: Known) -> bool:
        """Put a node last in the order, as the newest seen; False if it has to wait for room."""
        if node.id in self.nodes or len(self) < self.ksize:
            self.replacement_nodes.pop(node.id, None)
        added: bool = super().add_node(node)
        return added

    def remove_node(self, node: Node) -> None:
        """Take a node out; the newest of those that wait gets its place."""
        if node.id in self.nodes:
            super().remove_node(node)
        else:
            self.replacement_nodes.pop(node.id, None)

    def depth(self) -> int:
        """How many bits all ids of this range share, whichever contacts there are."""
        return _BITS - self._width.bit_length()

    def distance(self, target: int) -> int:
        """The least distance of any id in this range to a place."""
        return (self._lower ^ target) & ~self._width

    def random_place(self, rng: random.Random) -> Key:
        """Somewhere in this range."""
        return Key((self._lower + rng.randint(0, self._width)).to_bytes(ID_BYTES, "big"))


class Table(RoutingTable):  # type: ignore[misc]
    """All contacts of one node."""

    def __init__(self, node: NodeId, config: DirectoryConfig, now: float) -> None:
        self._config = config
        self._created_at = now
        self._size = 0
        super().__init__(None, config.k, Node(node))

    def flush(self) -> None:
        """Forget all contacts."""
        self._size = 0
        self.buckets: list[Bucket] = [Bucket(0, (1 << _BITS) - 1, self.ksize, self._created_at)]

    def __len__(self) -> int:
        """How many contacts there are, without those that wait for room."""
        return self._size

    def __iter__(self) -> Iterator[Contact]:
        """All contacts, by range."""
        return (known.contact for bucket in self.buckets for known in bucket.nodes.values())

    # --- who is here ----------------------------------------------------------------------------------------------

    def seen(self, contact: Contact, now: float) -> Contact | None:
        """Note that a contact can be reached, at these addresses; perhaps return one to ask whether it still can.

        That is the least recently seen contact of a bucket without room, if it was not seen for long.
        """
        if contact.node == self.node.id:
            return None
        oldest = self.add_contact(Known(contact, now))
        if oldest is None or now - oldest.seen_at < self._config.stale_s:
            return None
        # Once for each silence, however many newcomers there are.
        oldest.seen_at = now
        asked: Contact = oldest.contact
        return asked

    def struck(self, node: NodeId) -> None:
        """Count a question without an answer; the last one that is allowed costs the place."""
        known = self._known(node)
        if known is not None:
            known.strikes += 1
            if known.strikes >= self._config.strikes:
                self.lost(node)

    def lost(self, node: NodeId) -> None:
        """Take a node out."""
        bucket = self._bucket(node)
        before = len(bucket)
        bucket.remove_node(Node(node))
        self._size += len(bucket) - before

    def contact(self, node: NodeId) -> Contact | None:
        """Where a node was last reached, if it is in the table."""
        known = self._known(node)
        return known and known.contact

    def nearest(self, target: bytes, k: int, exclude: Collection[bytes] = ()) -> list[Contact]:
        """Exactly the k nearest contacts to a place, the nearest first."""
        return [known.contact for known in self.find_neighbors(Node(target), k, exclude)]

    # --- what is refreshed ----------------------------------------------------------------------------------------

    def looked_up(self, target: Key, now: float) -> None:
        """Note that a lookup went into the bucket of this place."""
        self._bucket(target).last_updated = now

    def lonely(self, rng: random.Random, now: float) -> list[Key]:
        """Take a random place in each bucket into which nothing looked for `refresh_s`: somebody is about to look."""
        # The same sum as in `next_lonely_at`: a difference could say otherwise for ever at that very time.
        lonely = [bucket for bucket in self.buckets if bucket.last_updated + self._config.refresh_s <= now]
        for bucket in lonely:
            bucket.last_updated = now
        return [bucket.random_place(rng) for bucket in lonely]

    def next_lonely_at(self) -> float:
        """When `lonely` has something to give."""
        return min(bucket.last_updated for bucket in self.buckets) + self._config.refresh_s

    # --- what the parent has otherwise ----------------------------------------------------------------------------

    def get_bucket_for(self, node: Node) -> int:
        """The index of the bucket whose range has the node: both its ends included, as in `has_in_range`."""
        return bisect_left(self.buckets, node.long_id, key=lambda bucket: bucket.range[1])

    def add_contact(self, node: Known) -> Known | None:
        """Put a node in, splitting buckets where that is allowed; return the oldest of the bucket if it has to wait."""
        while True:
            index = self.get_bucket_for(node)
            bucket = self.buckets[index]
            before = len(bucket)
            if bucket.add_node(node):
                self._size += len(bucket) - before
                return None
            if not self._may_split(bucket):
                oldest: Known = bucket.head()
                return oldest
            self.split_bucket(index)
            self._size = sum(map(len, self.buckets))

    def find_neighbors(self, node: Node, k: int | None = None, exclude: Collection[bytes] = ()) -> list[Known]:
        """Exactly the k nearest contacts to a place, the nearest first, one at that very place included.

        Ranges are taken in the order of their distance: they are whole subtrees, so their distances do not overlap.
        """
        k = self.ksize if k is None else k
        target: int = node.long_id
        nearest: list[Known] = []
        for bucket in sorted(self.buckets, key=lambda bucket: bucket.distance(target)):
            inside = [known for known in bucket.nodes.values() if known.id not in exclude]
            nearest += sorted(inside, key=lambda known: known.long_id ^ target)
            if len(nearest) >= k:
                break
        return nearest[:k]

    # --- inside ---------------------------------------------------------------------------------------------------

    def _bucket(self, place: NodeId | Key) -> Bucket:
        return self.buckets[self.get_bucket_for(Node(place))]

    def _known(self, node: NodeId) -> Known | None:
        known: Known | None = self._bucket(node).nodes.get(node)
        return known

    def _may_split(self, bucket: Bucket) -> bool:
        if bucket.depth() >= _BITS:
            return False
        return bucket.has_in_range(self.node) or bucket.depth() % self._config.bits != 0
