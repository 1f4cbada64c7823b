"""One lookup: asks ever nearer nodes about one place, on paths that share no node, within hard bounds.

It sends nothing itself: `ask` says whom to ask now, and it is told of answers and failures. All that others name is a
hint: taken only if it is nearer than what has answered, believed when it answers, held against whoever named it.
"""

from collections.abc import Container, Iterable, Sequence
from heapq import merge
from typing import assert_never

from kademlia.node import Node

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.hearsay import Hearsay
from meshd_node.core.directory.shortlist import Candidate, Shortlist, Stage
from meshd_protocol.ids import Key, NodeId
from meshd_protocol.messages.directory import Contact


class Lookup:
    """The state of one lookup. `start` are the nearest contacts of our own, dealt out to the paths in turn."""

    def __init__(
        self, target: Key, me: NodeId, start: Sequence[Contact], paths: int, config: DirectoryConfig, now: float
    ) -> None:
        self.target = target
        self.liars: set[NodeId] = set()
        self._me = me
        self._config = config
        self._ends_at = now + config.lookup_s
        self._place = Node(target)
        count = max(1, min(paths, len(start)))
        # All that can be named is looked at: a few liars' contacts must not hide what is behind them.
        named_max = config.k * (config.questions_max + 1)
        self._paths = [Shortlist(self._place, config.k, named_max) for _ in range(count)]
        self._asked = [0] * count
        alone = count == 1
        self._alpha = config.alpha if alone else config.path_alpha
        # Several paths together cover the k nearest when each covers half as many that no other has asked.
        self._width = config.k if alone else max(1, config.k // 2)
        self._hearsay = Hearsay(config)
        self._candidates: dict[NodeId, Candidate] = {}
        self._flying: dict[NodeId, Candidate] = {}
        for number, contact in enumerate(start):
            candidate = self._candidates[NodeId(contact.node)] = Candidate(contact, 1)
            self._paths[number % len(self._paths)].offer(candidate)

    # --- what its owner asks --------------------------------------------------------------------------------------

    @property
    def questions(self) -> int:
        """How many nodes were asked."""
        return sum(self._asked)

    def ask(self, now: float) -> list[Contact]:
        """Whom to ask now. Each is asked once."""
        self._pass_over_late(now)
        if now >= self._ends_at:
            return []
        contacts: list[Contact] = []
        for number in range(len(self._paths)):
            # With each that is asked, others that the same nodes named may stand aside: then the next are looked at.
            while asked := self._ask_on(number, now):
                contacts += asked
        return contacts

    def ended(self, now: float) -> bool:
        """Whether all of the nearest have answered, on every path, or a bound was reached."""
        return now >= self._ends_at or all(self._exhausted(number, now) for number in range(len(self._paths)))

    def next_at(self, now: float) -> float:
        """When to call `ask` again though nothing was heard."""
        at = self._ends_at
        for candidate in self._flying.values():
            hedge_at = candidate.asked_at + self._config.hedge_s
            at = min(at, hedge_at if now < hedge_at else candidate.asked_at + self._config.late_s)
        return at

    def answerers(self) -> list[Contact]:
        """The k nearest that answered, the nearest first."""
        return [candidate.contact for candidate in self._answerers()]

    def hops(self) -> int:
        """How many answers led to the nearest of them."""
        return next((candidate.depth for candidate in self._answerers()), 0)

    def depth_of(self, node: NodeId) -> int:
        """How many answers led to a node."""
        candidate = self._candidates.get(node)
        return 0 if candidate is None else candidate.depth

    # --- what it is told ------------------------------------------------------------------------------------------

    def answered(self, node: NodeId, hints: Iterable[Contact], distrusted: Container[NodeId]) -> None:
        """A node that was asked answered, and named these. A late answer counts as well."""
        candidate = self._candidates.get(node)
        if candidate is None or candidate.stage not in (Stage.ASKED, Stage.LATE) or node in self.liars:
            return
        self._hearsay.answered(candidate.hinters, late=candidate.stage is Stage.LATE)
        candidate.stage = Stage.ANSWERED
        self._flying.pop(node, None)
        self._paths[candidate.path].answered(candidate)
        for hint in hints:
            if hint.node != self._me and hint.node not in distrusted and hint.node not in self.liars:
                self._heard(candidate, hint)

    def failed(self, node: NodeId) -> None:
        """A node can not be reached, or what it said is worth nothing."""
        candidate = self._candidates.get(node)
        if candidate is not None and candidate.stage is not Stage.FAILED:
            was_asked = candidate.stage is Stage.ASKED
            candidate.stage = Stage.FAILED
            self._drop(candidate)
            if was_asked:
                self._blame(candidate)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _ask_on(self, number: int, now: float) -> list[Contact]:
        """Fill one path's share of questions."""
        nearest, _ = self._nearest(number, now)
        share = self._alpha - sum(candidate.stage is Stage.ASKED for candidate in nearest)
        share = min(share, self._config.questions_max - self._asked[number])
        asked: list[Candidate] = []
        for candidate in nearest:
            if len(asked) >= share:
                break
            if candidate.stage is Stage.HEARD and not self._stands_aside(candidate, now):
                candidate.stage, candidate.path, candidate.asked_at = Stage.ASKED, number, now
                self._flying[NodeId(candidate.id)] = candidate
                self._hearsay.asked(candidate.hinters)
                asked.append(candidate)
        self._asked[number] += len(asked)
        self._claim(number, asked)
        return [candidate.contact for candidate in asked]

    def _claim(self, number: int, asked: list[Candidate]) -> None:
        ids = [candidate.id for candidate in asked]
        for other, path in enumerate(self._paths):
            if other != number:
                path.remove(ids)

    def _nearest(self, number: int, now: float) -> tuple[list[Candidate], bool]:
        """The nearest of one path; those who let us wait stand aside for what is behind them. Whether any does."""
        nearest: list[Candidate] = []
        waits = False
        for candidate in self._paths[number].nearest():
            if len(nearest) >= self._width:
                break
            if self._stands_aside(candidate, now):
                waits = True
            else:
                nearest.append(candidate)
        return nearest, waits

    def _stands_aside(self, candidate: Candidate, now: float) -> bool:
        """Whether it was hedged, has to wait since too much of its hinters is open, or is such a hinter itself."""
        match candidate.stage:
            case Stage.HEARD:
                return self._hearsay.is_doubtful(candidate.hinters)
            case Stage.ASKED:
                return now >= candidate.asked_at + self._config.hedge_s
            case Stage.ANSWERED:
                return self._hearsay.is_in_doubt(NodeId(candidate.id))
            case Stage.LATE | Stage.FAILED:
                return False
            case _:
                assert_never(candidate.stage)

    def _pass_over_late(self, now: float) -> None:
        late = [flying for flying in self._flying.values() if now >= flying.asked_at + self._config.late_s]
        for candidate in late:
            candidate.stage = Stage.LATE
            self._drop(candidate)
            self._blame(candidate)

    def _exhausted(self, number: int, now: float) -> bool:
        if self._asked[number] >= self._config.questions_max:
            return not any(flying.path == number for flying in self._flying.values())
        nearest, waits = self._nearest(number, now)
        return not waits and all(candidate.stage is Stage.ANSWERED for candidate in nearest)

    def _answerers(self) -> list[Candidate]:
        everywhere = merge(*(path.nearest() for path in self._paths), key=self._place.distance_to)
        return [candidate for candidate in everywhere if candidate.stage is Stage.ANSWERED][: self._config.k]

    def _heard(self, hinter: Candidate, hint: Contact) -> None:
        node = NodeId(hint.node)
        candidate = self._candidates.get(node) or Candidate(hint, hinter.depth + 1)
        if candidate.stage is not Stage.HEARD:
            return
        if self._paths[hinter.path].offer(candidate):
            self._candidates[node] = candidate
            candidate.hinters.append(NodeId(hinter.id))

    def _blame(self, candidate: Candidate) -> None:
        for liar in self._hearsay.failed(candidate.hinters):
            if liar not in self.liars:
                self._expose(liar)

    def _expose(self, liar: NodeId) -> None:
        """Forget a liar, and what only liars named."""
        self.liars.add(liar)
        self._drop(self._candidates[liar])
        for node, candidate in list(self._candidates.items()):
            if candidate.stage is Stage.HEARD and candidate.hinters and self.liars.issuperset(candidate.hinters):
                self._drop(candidate)
                del self._candidates[node]

    def _drop(self, candidate: Candidate) -> None:
        self._flying.pop(NodeId(candidate.id), None)
        for path in self._paths:
            path.remove((candidate.id,))
