"""What nodes say about who is in the mesh and whether they live. Spec: 10-membership.md."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeIdField
from meshd_protocol.limits import (
    CERTIFICATE_BYTES_MAX,
    CLAIMS_PER_MESSAGE_MAX,
    REVOCATION_BYTES_MAX,
    REVOCATIONS_PER_MESSAGE_MAX,
    STATE_BYTES_MAX,
    STATE_DIGESTS_MAX,
    STATES_PER_MESSAGE_MAX,
)
from meshd_protocol.records import U32, Slot, Version
from meshd_protocol.signing import SIGNATURE_BYTES

# A rumour names a state by the first 8 bytes of its publisher and its slot; 2**32 ids would have to be made to find two
# alike, and who did would only have both of them fetched.
HANDLE_BYTES: Final = 9
# The handle, then the version: epoch and sequence, 4 bytes each, the larger first.
DIGEST_ENTRY_BYTES: Final = HANDLE_BYTES + 8
# In the place of a slot: a revocation of that node, whose version is the first 8 bytes of its body's BLAKE3.
REVOCATION: Final = 0
# Added to a slot: the sender holds the publisher for dead, or as one that has left.
GONE: Final = 0x80
SUMMARY_HASH_BYTES: Final = 8
SUMMARY_BUCKETS_MAX: Final = 256

Handles = Annotated[bytes, Meta(max_length=HANDLE_BYTES * STATE_DIGESTS_MAX)]
Digests = Annotated[bytes, Meta(max_length=DIGEST_ENTRY_BYTES * STATE_DIGESTS_MAX)]


def handle_of(publisher: bytes, slot: Slot) -> bytes:
    """Name one slot of one node."""
    return publisher[: HANDLE_BYTES - 1] + bytes((slot,))


class Load(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """How busy a node is at this moment: units that run, and units that wait for a worker."""

    running: U32
    queued: U32


class SignedState(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A `State` as its publisher signed it."""

    body: Annotated[bytes, Meta(max_length=STATE_BYTES_MAX)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class SignedClaim(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A `Claim` as its accuser signed it."""

    body: Annotated[bytes, Meta(max_length=256)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class SignedRevocation(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A `Revocation` as an issuer signed it, with the certificate that lets it. b"" where the root key signed."""

    body: Annotated[bytes, Meta(max_length=REVOCATION_BYTES_MAX)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
    issuer: Annotated[bytes, Meta(max_length=CERTIFICATE_BYTES_MAX)]


class Probe(Message, frozen=True):
    """Answer with `ProbeAck`. `suspected`: the newest version of the receiver that somebody suspects, if any does."""

    KIND = 0x20
    sequence: U32
    suspected: Version | None = None


class ProbeAck(Message, frozen=True):
    """The sender lives, and is this busy."""

    KIND = 0x21
    sequence: U32
    load: Load


class ProbeRequest(Message, frozen=True):
    """Probe this node for me, and report."""

    KIND = 0x22
    sequence: U32
    target: NodeIdField


class ProbeReport(Message, frozen=True):
    """What came of a `ProbeRequest`. Unreached says that the sender of the report lives and did its part."""

    KIND = 0x23
    sequence: U32
    reached: bool


class Rumours(Message, frozen=True):
    """News: whole where they are young, by digest where they have been passed on before."""

    KIND = 0x24
    revocations: Annotated[list[SignedRevocation], Meta(max_length=REVOCATIONS_PER_MESSAGE_MAX)]
    claims: Annotated[list[SignedClaim], Meta(max_length=CLAIMS_PER_MESSAGE_MAX)]
    states: Annotated[list[SignedState], Meta(max_length=STATES_PER_MESSAGE_MAX)]
    digests: Digests

    def __post_init__(self) -> None:
        """Refuse what ends in the middle."""
        _whole(self.digests, DIGEST_ENTRY_BYTES)


class StateWants(Message, frozen=True):
    """Send me the states of these handles."""

    KIND = 0x25
    handles: Handles

    def __post_init__(self) -> None:
        """Refuse what ends in the middle."""
        _whole(self.handles, HANDLE_BYTES)


class States(Message, frozen=True):
    """Signed states, whoever published them: wanted ones, or what anti-entropy found to be lacking."""

    KIND = 0x26
    states: Annotated[list[SignedState], Meta(max_length=STATES_PER_MESSAGE_MAX)]
    revocations: Annotated[list[SignedRevocation], Meta(max_length=REVOCATIONS_PER_MESSAGE_MAX)]


class Summary(Message, frozen=True):
    """Hashes over all that the sender holds. One hash: of everything. More: one for each bucket."""

    KIND = 0x27
    hashes: Annotated[bytes, Meta(min_length=SUMMARY_HASH_BYTES, max_length=SUMMARY_HASH_BYTES * SUMMARY_BUCKETS_MAX)]

    def __post_init__(self) -> None:
        """Refuse a number of buckets that nobody cuts."""
        _whole(self.hashes, SUMMARY_HASH_BYTES)
        _buckets(len(self.hashes) // SUMMARY_HASH_BYTES)


class BucketDigests(Message, frozen=True):
    """All that the sender holds in these buckets of `of`: the receiver sends what is newer, and asks for the rest."""

    KIND = 0x28
    of: Annotated[int, Meta(ge=1, le=SUMMARY_BUCKETS_MAX)]
    buckets: Annotated[bytes, Meta(min_length=1, max_length=SUMMARY_BUCKETS_MAX)]
    digests: Digests

    def __post_init__(self) -> None:
        """Refuse what ends in the middle, and buckets that there are not."""
        _whole(self.digests, DIGEST_ENTRY_BYTES)
        _buckets(self.of)
        if max(self.buckets) >= self.of or len(set(self.buckets)) < len(self.buckets):
            raise ValueError(f"there are buckets 0 to {self.of - 1}, each once")


def _whole(entries: bytes, size: int) -> None:
    if len(entries) % size:
        raise ValueError(f"{len(entries)} bytes are not whole entries of {size}")


def _buckets(of: int) -> None:
    if of & (of - 1):
        raise ValueError(f"{of} buckets: the number of buckets is a power of two")
