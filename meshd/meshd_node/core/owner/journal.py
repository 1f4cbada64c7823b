"""The owner's decisions as records: enough to rebuild its tables, in the order in which they were taken.

They are kept in memory for now; durability only adds a place to write them.
"""

from typing import TypeAlias

from msgspec import Struct

from meshd_protocol.ids import Digest, JobId, NodeId


class JobEntry(Struct, frozen=True):
    """A job was accepted."""

    job: JobId


class TrancheEntry(Struct, frozen=True):
    """Units of a job were accepted."""

    job: JobId
    tranche: int
    first: int
    count: int


class LeaseEntry(Struct, frozen=True):
    """Attempts were given to an executor. Rows as in `effects.Lease`."""

    job: JobId
    epoch: int
    node: NodeId
    indices: list[int]
    attempts: list[int]


class VerdictEntry(Struct, frozen=True):
    """Results were accepted: unit `indices[i]` has the final digest `digests[i]`."""

    job: JobId
    indices: list[int]
    digests: list[Digest]


class FailureEntry(Struct, frozen=True):
    """Units ended without a result (`failed`) or were cancelled."""

    job: JobId
    indices: list[int]
    cancelled: bool


class ClosedEntry(Struct, frozen=True):
    """No more units will come."""

    job: JobId


class FinishedEntry(Struct, frozen=True):
    """The job ended."""

    job: JobId
    state: str


Entry: TypeAlias = JobEntry | TrancheEntry | LeaseEntry | VerdictEntry | FailureEntry | ClosedEntry | FinishedEntry
