"""All entries, on 256 shelves by the first byte of their id, each with a hash over what lies on it.

Ids are hashes, so shelves fill evenly; who looks for one id by its beginning reads one shelf, not all.
"""

import math
from collections.abc import Iterator
from typing import Final

from meshd_node.core.membership.entry import Entry
from meshd_node.core.membership.events import Population
from meshd_protocol.ids import NodeId

SHELVES: Final = 256


class Shelves:
    """Entries by id, and the hashes that two nodes compare."""

    __slots__ = ("_changed", "_entries", "_hashes", "_size", "root")

    def __init__(self) -> None:
        self._entries: list[dict[NodeId, Entry]] = [{} for _ in range(SHELVES)]
        self._hashes = [0] * SHELVES
        self._changed = [-math.inf] * SHELVES
        self._size = 0
        self.root = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Entry]:
        for shelf in self._entries:
            yield from shelf.values()

    def get(self, node: NodeId) -> Entry | None:
        """The entry of one node."""
        return self._entries[node[0]].get(node)

    def find(self, prefix: bytes) -> Entry | None:
        """The entry whose id begins so. Of several, which only an issuer with much time can make, the eldest."""
        for node, entry in self._entries[prefix[0]].items():
            if node.startswith(prefix):
                return entry
        return None

    def add(self, entry: Entry) -> None:
        """Put a new one in. Its records are not counted by that."""
        self._entries[entry.node[0]][entry.node] = entry
        self._size += 1

    def inherit(self, population: Population, now: float) -> None:
        """Hold all of these, and what is held of the one that is here already."""
        before = list(self)
        self._entries = [
            {node: Entry(core, now, now, offer) for node, core, offer in shelf} for shelf in population.shelves
        ]
        for entry in before:
            self._entries[entry.node[0]][entry.node] = entry
        self._size, self._changed = len(population.nodes), [now] * SHELVES
        self._hashes, self.root = population.hashes.copy(), population.root

    def remove(self, node: NodeId) -> None:
        """Take one out, whose records are not counted any more."""
        del self._entries[node[0]][node]
        self._size -= 1

    def toggle(self, node: NodeId, value: int, now: float) -> None:
        """Count a record of a node, whose hash this is, or count it no more."""
        self._hashes[node[0]] ^= value
        self._changed[node[0]] = now
        self.root ^= value

    def bucket(self, of: int, index: int) -> Iterator[Entry]:
        """The entries of one of `of` buckets, a power of two up to 256."""
        width = SHELVES // of
        for shelf in self._entries[index * width : (index + 1) * width]:
            yield from shelf.values()

    def hashes(self, of: int) -> list[int]:
        """The hash of each of `of` buckets."""
        width = SHELVES // of
        if width == 1:
            return list(self._hashes)
        folded = []
        for start in range(0, SHELVES, width):
            value = 0
            for one in self._hashes[start : start + width]:
                value ^= one
            folded.append(value)
        return folded

    def settled(self, of: int, index: int, since: float) -> bool:
        """Whether nothing has changed in a bucket for so long."""
        width = SHELVES // of
        return max(self._changed[index * width : (index + 1) * width]) < since
