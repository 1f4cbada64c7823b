"""What can happen to a node's part of the directory."""

from typing import TypeAlias

from msgspec import Struct

from meshd_protocol.ids import Key, NodeId
from meshd_protocol.messages.directory import Contact, Contacts, FindNode, FindValue, SignedRecord, Stored, Values
from meshd_protocol.records import DirectoryKind, DirectoryRecord

# Chosen by who asks; `LookupEnded` names it. Those below 0 are the machine's own.
SearchId: TypeAlias = int


class VerifiedRecord(Struct, frozen=True, gc=False):
    """A record whose mesh, signature and certificates the shell has checked.

    `operator` is its publisher's. `ends_at` is when it expires, on the clock of `now`.
    """

    signed: SignedRecord
    record: DirectoryRecord
    operator: str
    ends_at: float


class ContactSeen(Struct, frozen=True, gc=False):
    """A node of this mesh can be reached: membership says so, or it asked us something and tells where it listens."""

    contact: Contact


class ContactLost(Struct, frozen=True, gc=False):
    """A node is dead or has left. `revoked`: what it published goes as well."""

    node: NodeId
    revoked: bool


class RequestArrived(Struct, frozen=True, gc=False):
    """A peer's question in which nothing is signed."""

    sender: NodeId
    stream: int
    message: FindNode | FindValue


class StoreArrived(Struct, frozen=True, gc=False):
    """A peer's own record, which `precheck` let pass and whose signature holds."""

    sender: NodeId
    stream: int
    salt: int
    record: VerifiedRecord


class Answered(Struct, frozen=True, gc=False):
    """A peer's answer. `records`: those of `Values` that were `wanted` and passed; `forged`: one of them failed."""

    query: int
    sender: NodeId
    message: Contacts | Values | Stored
    records: list[VerifiedRecord]
    forged: bool = False


class QueryFailed(Struct, frozen=True, gc=False):
    """The contact of a query can not be reached, or its session ended. Time-outs the machine sees by itself."""

    query: int


class LookUpNodes(Struct, frozen=True, gc=False):
    """Find the nodes nearest to a place."""

    search: SearchId
    target: Key


class LookUpRecords(Struct, frozen=True, gc=False):
    """Find records of a name: the first that is found, or if `thorough` the best of each publisher, on every path."""

    search: SearchId
    kind: DirectoryKind
    name: bytes
    thorough: bool


class GiveUp(Struct, frozen=True, gc=False):
    """Nobody waits for this search any more. It ends without `LookupEnded`."""

    search: SearchId


class PublishRecord(Struct, frozen=True, gc=False):
    """Keep a record of this node's in the directory, with this value from now on."""

    kind: DirectoryKind
    name: bytes
    value: bytes


class WithdrawRecord(Struct, frozen=True, gc=False):
    """Publish it no more; copies expire."""

    kind: DirectoryKind
    name: bytes


class RecordSigned(Struct, frozen=True, gc=False):
    """The record that the machine asked for, signed by this node."""

    record: VerifiedRecord


class Tick(Struct, frozen=True, gc=False):
    """The time that the last `Wake` named has come."""


Event: TypeAlias = (
    ContactSeen | ContactLost | RequestArrived | StoreArrived | Answered | QueryFailed | LookUpNodes | LookUpRecords
    | GiveUp | PublishRecord | WithdrawRecord | RecordSigned | Tick
)  # fmt: skip
