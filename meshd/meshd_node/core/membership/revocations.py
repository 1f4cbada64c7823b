"""The revocations that this node knows: a set that grows, bounded, and the same everywhere in the end.

One for each node and operator, of two for the same the one that ends later. Where the bound is reached the operator
that has most loses the one that ends first: an issuer of one operator can not bring back another one's nodes. The rules
depend on nothing but the records, so all nodes keep the same ones whatever the order in which they came.
"""

import heapq
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

from meshd_node.core.membership.events import VerifiedRevocation
from meshd_node.core.membership.shelves import SHELVES
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import REVOCATIONS_MAX

# The operator is part of it: an issuer may end the nodes of some operators only, and one that names the wrong operator
# must not stand in the way of the right one.
_Key: TypeAlias = tuple[NodeId, str]
_End: TypeAlias = tuple[int, bytes, NodeId]


class Revocations:
    """Verified revocations, by the first byte of the node's id like the entries."""

    __slots__ = ("_counts", "_ends", "_held", "_size")

    def __init__(self) -> None:
        self._held: dict[int, dict[_Key, VerifiedRevocation]] = {}
        self._counts: Counter[str] = Counter()  # of each operator's nodes
        self._ends: dict[str, list[_End]] = {}
        self._size = 0

    def get(self, node: NodeId, operator: str) -> VerifiedRevocation | None:
        """What ends the certificates that this operator's node has."""
        return self._held.get(node[0], {}).get((node, operator))

    def find(self, prefix: bytes) -> list[VerifiedRevocation]:
        """Those of nodes whose id begins so."""
        shelf = self._held.get(prefix[0], {})
        return [held for (node, _), held in shelf.items() if node.startswith(prefix)]

    def bucket(self, of: int, index: int) -> Iterator[VerifiedRevocation]:
        """Those of one of `of` buckets, as `Shelves` cuts them."""
        width = SHELVES // of
        for first in range(index * width, (index + 1) * width):
            yield from self._held.get(first, {}).values()

    def add(self, revocation: VerifiedRevocation) -> list[VerifiedRevocation] | None:
        """Hold it; return those that it displaced, None if it is not to be held."""
        record = revocation.revocation
        key = (record.node, record.operator)
        shelf = self._held.setdefault(record.node[0], {})
        held = shelf.get(key)
        if held is not None and _rank(revocation) <= _rank(held):
            return None
        displaced = [] if held is None else [held]
        self._size += held is None
        self._counts[record.operator] += held is None
        shelf[key] = revocation
        self._plan(revocation)
        if self._size > REVOCATIONS_MAX:
            displaced.append(self._drop_first())
        return None if displaced[-1:] == [revocation] else displaced

    def _plan(self, revocation: VerifiedRevocation) -> None:
        """Ends of what was displaced stay in the heap until it is built anew: at most as many as there are."""
        operator = revocation.revocation.operator
        ends = self._ends.setdefault(operator, [])
        heapq.heappush(ends, _end(revocation))
        if len(ends) > 2 * self._counts[operator] + 16:
            held = (each for shelf in self._held.values() for each in shelf.values())
            ends[:] = [_end(each) for each in held if each.revocation.operator == operator]
            heapq.heapify(ends)

    def _drop_first(self) -> VerifiedRevocation:
        """Take out the one that ends first of the operator that has most."""
        operator = max(self._counts, key=lambda name: (self._counts[name], name))
        while True:
            until, body, node = heapq.heappop(self._ends[operator])
            held = self._held[node[0]].get((node, operator))
            if held is not None and _rank(held) == (until, body):
                self._size -= 1
                self._counts[operator] -= 1
                return self._held[node[0]].pop((node, operator))


def _end(revocation: VerifiedRevocation) -> _End:
    return *_rank(revocation), NodeId(revocation.revocation.node)


def _rank(revocation: VerifiedRevocation) -> tuple[int, bytes]:
    return revocation.revocation.until_ms, revocation.signed.body
