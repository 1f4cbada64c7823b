"""What one path of a lookup may still ask: the package's heap of nodes by distance, with members found by their id."""

from bisect import insort
from collections.abc import Collection
from enum import Enum

from kademlia.node import Node, NodeHeap

from meshd_protocol.ids import NodeId
from meshd_protocol.messages.directory import Contact


class Stage(Enum):
    """How far a lookup has come with one candidate."""

    HEARD = 1
    ASKED = 2
    LATE = 3
    ANSWERED = 4
    FAILED = 5


class Candidate(Node):  # type: ignore[misc]  # the package has no types
    """A contact of one lookup. `depth`: how many answers led to it. `hinters`: who named it; empty for our own."""

    def __init__(self, contact: Contact, depth: int) -> None:
        super().__init__(contact.node)
        self.contact = contact
        self.depth = depth
        self.hinters: list[NodeId] = []
        self.stage = Stage.HEARD
        # Once it was asked.
        self.path = 0
        self.asked_at = 0.0


class Shortlist(NodeHeap):  # type: ignore[misc]
    """The candidates of one path.

    The parent looks through its whole heap for a node, and sorts it anew for whoever asks for the nearest: this one
    knows its ids, and what it said last.
    """

    def __init__(self, target: Node, k: int, maxsize: int) -> None:
        super().__init__(target, maxsize)
        self._k = k
        self._ids: set[bytes] = set()
        self._nearest: list[Candidate] | None = []
        # How far those are that answered, in order.
        self._answered: list[int] = []

    def __contains__(self, node: object) -> bool:
        return isinstance(node, Candidate) and node.id in self._ids

    def offer(self, candidate: Candidate) -> bool:
        """Take a candidate in, unless `k` nearer ones have answered: what only was heard of bars nobody."""
        if candidate.id in self._ids:
            return True
        distance: int = candidate.long_id ^ self.node.long_id
        if len(self._answered) >= self._k and distance > self._answered[self._k - 1]:
            return False
        self.push(candidate)
        self._ids.add(candidate.id)
        self._nearest = None
        return True

    def answered(self, candidate: Candidate) -> None:
        """Count a candidate as one that exists; take it in again if it was given up."""
        if self.offer(candidate):
            insort(self._answered, candidate.long_id ^ self.node.long_id)

    def remove(self, peers: Collection[bytes]) -> None:
        """Take candidates out by id; those behind them move up."""
        gone = self._ids.intersection(peers)
        if not gone:
            return
        distances = {int.from_bytes(peer, "big") ^ self.node.long_id for peer in gone}
        self._answered = [distance for distance in self._answered if distance not in distances]
        super().remove(gone)
        self._ids -= gone
        self._nearest = None

    def nearest(self) -> list[Candidate]:
        """The nearest `maxsize`, the nearest first."""
        if self._nearest is None:
            self._nearest = list(self)
        return self._nearest
