"""What the directory asks its shell to do, in order."""

from typing import TypeAlias

from msgspec import Struct

from meshd_node.core.directory.events import SearchId, VerifiedRecord
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.directory import Contact, Contacts, FindNode, FindValue, Store, Stored, Values
from meshd_protocol.records import DirectoryKind


class Ask(Struct, frozen=True, gc=False):
    """Send to this contact, dialling if need be; answer with `Answered` or `QueryFailed`. `query` fits a stream id."""

    query: int
    contact: Contact
    message: FindNode | FindValue | Store


class Reply(Struct, frozen=True, gc=False):
    """Answer a peer's question on its stream; nothing happens if its session is gone."""

    node: NodeId
    stream: int
    message: Contacts | Values | Stored


class LookupEnded(Struct, frozen=True, gc=False):
    """What a search found: the nodes nearest to its last place that answered, the nearest first, and records.

    `sources` had one of the records; this node itself may be one. `hops` is how many answers led to the nearest node,
    or to the first record.
    """

    search: SearchId
    contacts: list[Contact]
    records: list[VerifiedRecord]
    sources: list[NodeId]
    hops: int
    questions: int
    seconds: float


class SignRecord(Struct, frozen=True, gc=False):
    """Sign this with a new version, to expire in `ttl_s`; answer with `RecordSigned`, at once."""

    kind: DirectoryKind
    name: bytes
    value: bytes
    ttl_s: float


class RecordPublished(Struct, frozen=True, gc=False):
    """Every place of a record was tried, and other nodes took so many copies."""

    kind: DirectoryKind
    name: bytes
    copies: int


class Wake(Struct, frozen=True, gc=False):
    """Send `Tick` at this time (the clock of `now`), in place of any earlier wish."""

    at: float


Effect: TypeAlias = Ask | Reply | LookupEnded | SignRecord | RecordPublished | Wake
