"""What was asked for as a whole: one or several lookups, one after the other or at once, and what they found."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from meshd_node.core.directory.effects import LookupEnded
from meshd_node.core.directory.events import SearchId, VerifiedRecord
from meshd_node.core.directory.lookup import Lookup
from meshd_node.core.directory.publishing import Placing
from meshd_node.core.directory.storage import is_better
from meshd_protocol.ids import Key, NodeId
from meshd_protocol.messages.directory import Contact


@dataclass(slots=True, eq=False)
class Search:
    """`keys` are the places that were not looked at yet; a thorough one looks at all of them at once."""

    number: SearchId
    keys: deque[Key]
    began_at: float
    for_records: bool = False
    # Enough nodes that gave records; a thorough search hears all.
    voices: int = 1
    thorough: bool = False
    # It looks around this node itself.
    around: bool = False
    # What is stored where this search ends, if it is for that.
    placing: Placing | None = None
    # Nobody waits for it: it yields to those for which somebody does.
    background: bool = False
    lookups: list[Lookup] = field(default_factory=list)
    found: dict[NodeId, VerifiedRecord] = field(default_factory=dict)
    found_at_hops: int = 0
    sources: dict[NodeId, None] = field(default_factory=dict)
    questions: int = 0
    # When to look at it though nothing is heard; at once whenever something was.
    due_at: float = -math.inf

    def take(self, source: NodeId, records: Sequence[VerifiedRecord], hops: int) -> None:
        """Hear what one node gave: keep the best record of each publisher."""
        if not records:
            return
        self.sources[source] = None
        if not self.found:
            self.found_at_hops = hops
        for record in records:
            publisher = NodeId(record.record.publisher)
            held = self.found.get(publisher)
            if held is None or is_better(record, held):
                self.found[publisher] = record

    def satisfied(self) -> bool:
        """Whether nothing more has to be asked."""
        return len(self.sources) >= self.voices and not self.thorough

    def next_keys(self) -> list[Key]:
        """The places to look at now: all, or the next one if the last one gave nothing."""
        if self.thorough:
            keys = list(self.keys)
            self.keys.clear()
            return keys
        return [self.keys.popleft()] if self.keys and not (self.lookups and self.found) else []

    def answerers(self) -> list[Contact]:
        """The nodes nearest to the last place that answered."""
        return self.lookups[-1].answerers() if self.lookups else []

    def outcome(self, now: float) -> LookupEnded:
        """What to tell whoever asked."""
        hops = self.found_at_hops if self.found else max((lookup.hops() for lookup in self.lookups), default=0)
        return LookupEnded(
            self.number,
            self.answerers(),
            list(self.found.values()),
            list(self.sources),
            hops,
            self.questions,
            now - self.began_at,
        )
