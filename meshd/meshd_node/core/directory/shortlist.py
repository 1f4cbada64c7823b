"""What one path of a lookup may still ask: the package's heap of nodes by distance, with members found by their id."""

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

    def __init__(self, target: Node, maxsize: int) -> None:
        super().__init__(target, maxsize)
        self._ids: set[bytes] = set()
        self._nearest: list[Candidate] | None = []

    def __contains__(self, node: object) -> bool:
        return isinstance(node, Candidate) and node.id in self._ids

    def offer(self, candidate: Candidate) -> bool:
        """Take a candidate in, if it is nearer than the last of the nearest `maxsize`, or there are fewer."""
        if candidate.id in self._ids:
            return True
        nearest = self.nearest()
        place = self.node.long_id
        if len(nearest) >= self.maxsize and candidate.long_id ^ place >= nearest[-1].long_id ^ place:
            return False
        self.push(candidate)
        self._ids.add(candidate.id)
        self._nearest = None
        return True

    def remove(self, peers: Collection[bytes]) -> None:
        """Take candidates out by id; those behind them move up."""
        gone = self._ids.intersection(peers)
        if gone:
            super().remove(gone)
            self._ids -= gone
            self._nearest = None

    def nearest(self) -> list[Candidate]:
        """The nearest `maxsize`, the nearest first."""
        if self._nearest is None:
            self._nearest = list(self)
        return self._nearest
