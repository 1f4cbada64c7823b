"""What this node keeps in the directory: when each record is signed anew, and how many others took a copy."""

import math
import random
from dataclasses import dataclass

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.events import VerifiedRecord
from meshd_protocol.records import DirectoryKind


@dataclass(slots=True, eq=False)
class Publication:
    """One record of this node's. While `open_places` or `open_stores` are above 0 it is on its way."""

    kind: DirectoryKind
    name: bytes
    value: bytes
    due_at: float
    open_places: int = 0
    open_stores: int = 0
    copies: int = 0
    # Its value changed while the old one was on its way.
    stale: bool = False

    @property
    def on_its_way(self) -> bool:
        """Whether nodes still have to answer."""
        return self.open_places > 0 or self.open_stores > 0


@dataclass(frozen=True, slots=True)
class Placing:
    """A record of a publication that is to be stored under one of its keys."""

    publication: Publication
    record: VerifiedRecord
    salt: int


class Publications:
    """All of them, by kind and name."""

    def __init__(self, rng: random.Random, config: DirectoryConfig) -> None:
        self._rng = rng
        self._config = config
        self._all: dict[tuple[DirectoryKind, bytes], Publication] = {}

    def get(self, kind: DirectoryKind, name: bytes) -> Publication | None:
        """One of them."""
        return self._all.get((kind, name))

    def put(self, kind: DirectoryKind, name: bytes, value: bytes, due_at: float) -> None:
        """Publish this value from `due_at` on. Nothing happens if there are too many already."""
        publication = self.get(kind, name)
        if publication is None:
            if len(self._all) < self._config.own_max:
                self._all[kind, name] = Publication(kind, name, value, due_at)
        elif publication.value != value:
            publication.value, publication.stale = value, publication.on_its_way
            publication.due_at = min(publication.due_at, due_at)

    def drop(self, kind: DirectoryKind, name: bytes) -> None:
        """Publish it no more."""
        self._all.pop((kind, name), None)

    def hurry(self, due_at: float) -> None:
        """Publish all of them by then: other nodes are nearest now."""
        for publication in self._all.values():
            publication.due_at = min(publication.due_at, due_at)

    def due(self, now: float) -> list[Publication]:
        """Take those to sign now; `hurry` and `ended` say when they are due again."""
        due = [each for each in self._all.values() if each.due_at <= now and not each.on_its_way]
        for publication in due:
            publication.due_at, publication.copies = math.inf, 0
        return due

    def ended(self, publication: Publication, now: float) -> None:
        """Plan the next time: soon if nobody took a copy, at once if its value changed on the way."""
        pause = self._config.republish_s if publication.copies else self._config.retry_s
        again_at = now if publication.stale else now + pause * self._rng.uniform(0.75, 1.0)
        publication.due_at = min(publication.due_at, again_at)
        publication.stale = False

    def next_at(self) -> float:
        """When there is something to sign."""
        return min((each.due_at for each in self._all.values() if not each.on_its_way), default=math.inf)
