"""What nodes ask each other when they look for a node or a record. Spec: 14-directory.md.

An answer travels on the stream of its question, so that neither names the other.
"""

from enum import IntEnum
from typing import Annotated

from msgspec import Meta, Struct

from meshd_protocol.framing import Message
from meshd_protocol.ids import KeyField, NodeIdField
from meshd_protocol.limits import (
    CONTACT_ADDRESSES_MAX,
    CONTACTS_PER_MESSAGE_MAX,
    RECORD_BYTES_MAX,
    RECORD_SALTS,
    RECORDS_PER_MESSAGE_MAX,
)
from meshd_protocol.records import Address, CertificateDer
from meshd_protocol.signing import SIGNATURE_BYTES

RecordBody = Annotated[bytes, Meta(max_length=RECORD_BYTES_MAX)]
Signature = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class Contact(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A node and where it may be reached. A hint: who answers there proves by its certificate who it is."""

    node: NodeIdField
    addresses: Annotated[list[Address], Meta(min_length=1, max_length=CONTACT_ADDRESSES_MAX)]


class SignedRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A `DirectoryRecord` as its publisher signed it, and the publisher's certificates: a stranger can check it."""

    body: RecordBody
    signature: Signature
    certificates: Annotated[list[CertificateDer], Meta(min_length=1, max_length=2)]


ContactList = Annotated[list[Contact], Meta(max_length=CONTACTS_PER_MESSAGE_MAX)]


class FindNode(Message, frozen=True):
    """Which nodes nearest to this place do you know? Answer with `Contacts`."""

    KIND = 0x40
    target: KeyField


class FindValue(Message, frozen=True):
    """What do you hold under this key, and which nodes nearest to it do you know? Answer with `Values`."""

    KIND = 0x41
    key: KeyField


class Contacts(Message, frozen=True):
    """Answer to `FindNode`, the nearest first. Neither who answers nor who asked is among them."""

    KIND = 0x42
    contacts: ContactList


class Values(Message, frozen=True):
    """Answer to `FindValue`."""

    KIND = 0x43
    records: Annotated[list[SignedRecord], Meta(max_length=RECORDS_PER_MESSAGE_MAX)]
    contacts: ContactList


class Store(Message, frozen=True):
    """Keep this record of the sender's own, under the key that `salt` and the record itself make."""

    KIND = 0x44
    salt: Annotated[int, Meta(ge=0, lt=RECORD_SALTS)]
    body: RecordBody
    signature: Signature


class StoreOutcome(IntEnum):
    """What became of a `Store`."""

    KEPT = 0
    # A better one of the same publisher is held.
    OLDER = 1
    # It has expired by the receiver's clock, or asks to be kept for too long.
    OUT_OF_TIME = 2
    # The publisher, the key or the whole store has all that it may have.
    FULL = 3
    # Not the sender's own, of another mesh, or under a name that is not the publisher's to use.
    NOT_YOURS = 4


class Stored(Message, frozen=True):
    """Answer to `Store`."""

    KIND = 0x45
    outcome: StoreOutcome
