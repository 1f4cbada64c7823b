"""The owner's decisions as records: enough to rebuild its tables, in the order in which they were taken.

They are kept in memory for now; durability only adds a place to write them.
"""

from dataclasses import dataclass
from typing import TypeAlias

from meshd_protocol.ids import Digest, JobId, NodeId


@dataclass(frozen=True, slots=True)
class JobEntry:
    """A job was accepted."""

    job: JobId


@dataclass(frozen=True, slots=True)
class TrancheEntry:
    """Units of a job were accepted."""

    job: JobId
    tranche: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class LeaseEntry:
    """Attempts were given to an executor. Rows as in `effects.Lease`."""

    job: JobId
    epoch: int
    node: NodeId
    indices: list[int]
    attempts: list[int]


@dataclass(frozen=True, slots=True)
class VerdictEntry:
    """Results were accepted: unit `indices[i]` has the final digest `digests[i]`."""

    job: JobId
    indices: list[int]
    digests: list[Digest]


@dataclass(frozen=True, slots=True)
class FailureEntry:
    """Units ended without a result (`failed`) or were cancelled."""

    job: JobId
    indices: list[int]
    cancelled: bool


@dataclass(frozen=True, slots=True)
class ClosedEntry:
    """No more units will come."""

    job: JobId


@dataclass(frozen=True, slots=True)
class FinishedEntry:
    """The job ended."""

    job: JobId
    state: str


Entry: TypeAlias = JobEntry | TrancheEntry | LeaseEntry | VerdictEntry | FailureEntry | ClosedEntry | FinishedEntry
