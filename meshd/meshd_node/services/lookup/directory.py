"""What a lookup needs of the directory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from meshd_protocol.ids import NodeId
from meshd_protocol.records import DirectoryKind, DirectoryRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a search brought: records whose signatures hold, the nodes that had them, and what it cost."""

    records: Sequence[DirectoryRecord]
    answered_by: Sequence[NodeId]
    hops: int
    asked: int


class Directory(Protocol):
    """Where the whole mesh keeps what it knows. `done` is called once: at once, or when the search has ended."""

    def find_contact(self, node: NodeId, done: Callable[[Search], None]) -> None:
        """Look for the contact record of a node."""
        ...

    def find_records(self, kind: DirectoryKind, name: bytes, done: Callable[[Search], None]) -> None:
        """Look for all records of a kind under a name: the id of a job or of a blob."""
        ...
