"""Who observes whom: every member's neighbours on hash rings, as Rapid (arXiv:1803.03620) lays them.

A place on a ring is a hash of the node's id, which its issuer's nonce has made: nobody chooses whom to observe.
"""

import struct
from bisect import bisect_left
from functools import lru_cache
from typing import Final

from blake3 import blake3
from msgspec import Struct

from meshd_protocol.ids import NodeId

# While members come and go two views differ by a few nodes: who observes in one is within so many places in another.
_TOLERANCE: Final = 2
_CACHED_MAX: Final = 256


@lru_cache(maxsize=1 << 15)
def places(node: NodeId, rings: int) -> tuple[int, ...]:
    """A node's place on each ring."""
    digest = blake3(b"meshd/ring/1\0" + node).digest(length=8 * rings)
    return struct.unpack(f">{rings}Q", digest)


class Ring(Struct, gc=False):
    """Members in the order of their places on one ring; the places beside them, for bisection."""

    places: list[int]
    members: list[NodeId]

    def copy(self) -> "Ring":
        """One that may be changed."""
        return Ring(self.places.copy(), self.members.copy())

    def insert(self, place: int, node: NodeId) -> int:
        """Put a member in; return where."""
        index = bisect_left(self.places, place)
        self.places.insert(index, place)
        self.members.insert(index, node)
        return index

    def remove(self, place: int) -> int:
        """Take the member at this place out; return where it was."""
        index = bisect_left(self.places, place)
        del self.places[index], self.members[index]
        return index


@lru_cache(maxsize=2)
def _sorted_rings(members: frozenset[NodeId], rings: int) -> tuple[Ring, ...]:
    """All rings of these members. Whoever gets them shares them and may not change them."""
    made = []
    for ring in range(rings):
        order = sorted((places(node, rings)[ring], node) for node in members)
        made.append(Ring([place for place, _ in order], [node for _, node in order]))
    return tuple(made)


class Rings:
    """The living members in their order on each ring, this node among them.

    A join or a departure costs a bisection for each ring, not a sort; many joins at once are sorted together, and
    machines of one process that hold the same members share what came of it until one of them changes.
    """

    __slots__ = ("_accusers", "_count", "_joining", "_moved", "_rings", "_shared", "node")

    def __init__(self, node: NodeId, rings: int) -> None:
        self.node = node
        self._count = rings
        self._rings = _sorted_rings(frozenset((node,)), rings)
        self._shared = True
        self._joining: dict[NodeId, None] = {}  # not yet in their places
        self._accusers: dict[NodeId, dict[NodeId, bool]] = {}
        self._moved = False

    def __len__(self) -> int:
        self._settle()
        return len(self._rings[0].members)

    def __contains__(self, node: NodeId) -> bool:
        self._settle()
        return self._holds(node)

    def add(self, node: NodeId) -> None:
        """Take in a member. Nothing changes if it is here."""
        self._joining[node] = None

    def inherit(self, members: frozenset[NodeId]) -> None:
        """Take in all of these, this node among them, in place of those who are here."""
        self._rings = _sorted_rings(members, self._count)
        self._shared = self._moved = True
        self._changed()

    def discard(self, node: NodeId) -> None:
        """Let a member go. Nothing changes if it is not here; this node itself stays."""
        self._settle()
        if node == self.node or not self._holds(node):
            return
        self._own()
        for ring, place in zip(self._rings, places(node, self._count), strict=True):
            members, index = ring.members, ring.remove(place)
            self._moved |= members[index - 1] == self.node or members[index % len(members)] == self.node
        self._changed()

    def moved(self) -> bool:
        """Whether this node's own neighbours may be others than at the last call."""
        if self._joining:
            self._settle()
        moved, self._moved = self._moved, False
        return moved

    def observers(self, node: NodeId) -> list[NodeId]:
        """Who probes this member: its predecessors on the rings; everybody in a mesh that is no larger."""
        return self._others(node) if self._everybody() else self._beside(node, -1, 1)

    def subjects(self, node: NodeId) -> list[NodeId]:
        """Whom this member probes: its successors on the rings."""
        return self._others(node) if self._everybody() else self._beside(node, 1, 1)

    def may_accuse(self, accuser: NodeId, accused: NodeId) -> bool:
        """Whether `accuser` observes `accused`, or would in the view of somebody who knows of one member less."""
        return accuser in self._standing(accused)

    def observes(self, accuser: NodeId, accused: NodeId) -> bool:
        """Whether `accuser` is one of the observers of `accused`."""
        return self._standing(accused).get(accuser, False)

    def _standing(self, accused: NodeId) -> dict[NodeId, bool]:
        """Who may accuse this member, and whether it observes it."""
        if self._joining:
            self._settle()
        standing = self._accusers.get(accused)
        if standing is None:
            if not self._holds(accused):
                return {}
            if len(self._accusers) >= _CACHED_MAX:
                self._accusers.clear()
            observers = self.observers(accused)
            standing = dict.fromkeys(observers if self._everybody() else self._beside(accused, -1, _TOLERANCE), False)
            standing.update(dict.fromkeys(observers, True))
            self._accusers[accused] = standing
        return standing

    def _everybody(self) -> bool:
        self._settle()
        return len(self._rings[0].members) <= self._count + 1

    def _others(self, node: NodeId) -> list[NodeId]:
        return [other for other in self._rings[0].members if other != node]

    def _beside(self, node: NodeId, step: int, reach: int) -> list[NodeId]:
        """The nearest `reach` members on each ring before (-1) or after (1) a member, without repetition."""
        beside: dict[NodeId, None] = {}
        for ring, place in zip(self._rings, places(node, self._count), strict=True):
            members, index = ring.members, bisect_left(ring.places, place)
            for distance in range(1, reach + 1):
                beside[members[(index + step * distance) % len(members)]] = None
        beside.pop(node, None)
        return list(beside)

    def _holds(self, node: NodeId) -> bool:
        ring = self._rings[0]
        index = bisect_left(ring.places, places(node, self._count)[0])
        return index < len(ring.members) and ring.members[index] == node

    # --- changes --------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Put those who have joined in their places."""
        if not self._joining:
            return
        joining, self._joining = self._joining, {}
        # Sorting costs as much as so many bisections, and its outcome may be there already.
        if len(joining) > 16 + len(self._rings[0].members) // 8:
            self._rings = _sorted_rings(frozenset((*self._rings[0].members, *joining)), self._count)
            self._shared = self._moved = True
        else:
            self._own()
            for node in joining:
                if not self._holds(node):
                    self._insert(node)
        self._changed()

    def _insert(self, node: NodeId) -> None:
        for ring, place in zip(self._rings, places(node, self._count), strict=True):
            members, index = ring.members, ring.insert(place, node)
            self._moved |= members[index - 1] == self.node or members[(index + 1) % len(members)] == self.node

    def _own(self) -> None:
        if self._shared:
            self._rings = tuple(ring.copy() for ring in self._rings)
            self._shared = False

    def _changed(self) -> None:
        self._accusers.clear()
        # Around the size up to which everybody observes everybody each change concerns all.
        self._moved |= len(self._rings[0].members) <= self._count + 2
