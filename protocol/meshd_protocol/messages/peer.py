"""What nodes say to each other. Spec: 08-peer.md (link), 09-admission.md, 10-membership.md, 07-jobs.md."""

from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from meshd_protocol.errors import CloseCode
from meshd_protocol.framing import Channel, Message
from meshd_protocol.ids import DigestField, JobIdField
from meshd_protocol.limits import (
    ADDRESSES_MAX,
    BATCH_UNITS_MAX,
    CERTIFICATE_BYTES_MAX,
    DURATION_MS_MAX,
    FRAME_BYTES_MAX,
    FUNCTION_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    SLICE_BYTES_MAX,
)
from meshd_protocol.messages import directory, membership
from meshd_protocol.messages.attempts import AttemptResult, Payload, Reason
from meshd_protocol.records import U32, U63, Address, AttemptNumber, CertificateDer, UnitIndex
from meshd_protocol.signing import Signed


class Lane(IntEnum):
    """What a connection is for: control frames never wait for bulk, so bulk has a connection of its own."""

    CONTROL = 0
    BULK = 1


class Hello(Message, frozen=True):
    """First frame of both sides, the server's first. `issuer` is the certificate that signed the sender's, or empty."""

    KIND = 0x01
    versions: Annotated[list[U32], Meta(min_length=1, max_length=16)]
    lane: Lane
    issuer: Annotated[bytes, Meta(max_length=CERTIFICATE_BYTES_MAX)]
    wall_ms: U63


class Slice(Message, frozen=True):
    """A part of a message too large for one frame; the stream id tells messages apart."""

    KIND = 0x02
    kind: Annotated[int, Meta(ge=0, le=255)]
    total: Annotated[int, Meta(ge=1, le=MESSAGE_BYTES_MAX)]
    offset: Annotated[int, Meta(ge=0, lt=MESSAGE_BYTES_MAX)]
    data: Annotated[bytes, Meta(min_length=1, max_length=SLICE_BYTES_MAX)]


class Ping(Message, frozen=True):
    """Answer with `Pong` on the same stream."""

    KIND = 0x03


class Pong(Message, frozen=True):
    """Answer to `Ping`."""

    KIND = 0x04


class Close(Message, frozen=True):
    """The sender hangs up after this frame, and says why. `proof` comes with REVOKED, which is not believed without."""

    KIND = 0x05
    code: CloseCode
    reason: Reason
    proof: membership.SignedRevocation | None = None


class WantBulk(Message, frozen=True):
    """The sender, who was dialled, has something large: the receiver, who dialled, is to open the bulk connection."""

    KIND = 0x06


# --- admission ----------------------------------------------------------------------------------------------------


class SignRequest(Message, frozen=True):
    """A certificate signing request (PKCS 10, DER) of a joiner or of a node that renews.

    The one thing an invite's holder may send. A seed that is not the invite's issuer relays it: it then fills
    `invite`, the invite's certificate, which the issuer checks again.
    """

    KIND = 0x10
    request: Annotated[bytes, Meta(min_length=1, max_length=CERTIFICATE_BYTES_MAX)]
    invite: Annotated[bytes, Meta(max_length=CERTIFICATE_BYTES_MAX)] = b""


class SignGrant(Message, frozen=True):
    """The new certificate and, unless the root signed it, its issuer's."""

    KIND = 0x11
    certificates: Annotated[list[CertificateDer], Meta(min_length=1, max_length=2)]


class SignRefusalCode(IntEnum):
    """Why a request was not signed."""

    USED_UP = 1
    EXPIRED = 2
    REVOKED = 3
    MALFORMED = 4
    NOT_GRANTABLE = 5
    ISSUER_UNREACHABLE = 6


class SignRefusal(Message, frozen=True):
    """The request is not granted, in words for the person who joins."""

    KIND = 0x12
    code: SignRefusalCode
    reason: Reason


# --- jobs ---------------------------------------------------------------------------------------------------------


class JobOpen(Message, frozen=True):
    """The manifest of a job whose units will follow. Once per session and job."""

    KIND = 0x30
    manifest: Signed


class FunctionData(Message, frozen=True):
    """A pickled function of a job. Once per session, job and function."""

    KIND = 0x31
    job: JobIdField
    data: Annotated[bytes, Meta(max_length=FUNCTION_BYTES_MAX)]


class TrancheOpen(Message, frozen=True):
    """A signed tranche some of whose units will follow. Once per session and tranche."""

    KIND = 0x32
    job: JobIdField
    tranche: Signed


class LeasedUnit(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One unit to run. `function` counts in the lease's own list."""

    index: UnitIndex
    attempt: AttemptNumber
    function: Annotated[int, Meta(ge=0, lt=BATCH_UNITS_MAX)]
    payload: Payload


class LeaseGrant(Message, frozen=True):
    """The receiver may run these units, all of one tranche.

    What a lease refers to (job, tranche, functions) may arrive after it, on the other lane; it waits for that.
    A duration, not a deadline: two nodes' clocks are never compared. `epoch` fences an owner that was replaced.
    """

    KIND = 0x33
    job: JobIdField
    epoch: U32
    tranche: U32
    duration_ms: Annotated[int, Meta(gt=0, le=DURATION_MS_MAX)]
    functions: Annotated[list[DigestField], Meta(min_length=1, max_length=BATCH_UNITS_MAX)]
    units: Annotated[list[LeasedUnit], Meta(min_length=1, max_length=BATCH_UNITS_MAX)]


class ResultBatch(Message, frozen=True):
    """Results of one job under one receipt: its leaves are those of `results` in their order."""

    KIND = 0x34
    job: JobIdField
    receipt: Signed
    results: Annotated[list[AttemptResult], Meta(min_length=1, max_length=BATCH_UNITS_MAX)]


class AttemptsEnded(Message, frozen=True):
    """Attempts that ended without a result (crashed, timed out, handed back, refused). Nobody signs for these."""

    KIND = 0x35
    job: JobIdField
    epoch: U32
    ends: Annotated[list[AttemptResult], Meta(min_length=1, max_length=BATCH_UNITS_MAX)]


class Credit(Message, frozen=True):
    """How much work of the receiver's the sender takes at a time: absolute windows over what is unanswered."""

    KIND = 0x36
    units: U32
    payload_bytes: U63


class Recall(Message, frozen=True):
    """Forget these units: end them where they run, answer for none of them. No indices: the whole job."""

    KIND = 0x37
    job: JobIdField
    epoch: U32
    indices: Annotated[list[UnitIndex], Meta(max_length=4096)]


# --- reachability -------------------------------------------------------------------------------------------------


class DialBack(Message, frozen=True):
    """Dial me at these addresses of my `core` and say what came of it, on the same stream."""

    KIND = 0x48
    addresses: Annotated[list[Address], Meta(min_length=1, max_length=ADDRESSES_MAX)]


class DialOutcome(IntEnum):
    """What came of dialling one address. No words: a report is no way to read what else answers there."""

    REACHED = 1
    REFUSED = 2  # nobody listens there
    SILENT = 3  # no answer in time
    FAILED = 4  # another node or no node answered, or the network could not deliver
    NOT_YOURS = 5  # not in the asker's `core` as the receiver holds it
    TOO_OFTEN = 6  # the receiver has dialled enough for others


class DialBackReport(Message, frozen=True):
    """What came of a `DialBack`, one outcome for each address in its order."""

    KIND = 0x49
    outcomes: Annotated[list[DialOutcome], Meta(min_length=1, max_length=ADDRESSES_MAX)]


PEER: Final = Channel(
    "peer",
    [
        Hello, Slice, Ping, Pong, Close, WantBulk,
        SignRequest, SignGrant, SignRefusal,
        membership.Probe, membership.ProbeAck, membership.ProbeRequest, membership.ProbeReport, membership.Rumours,
        membership.StateWants, membership.States, membership.Summary, membership.BucketDigests,
        directory.FindNode, directory.FindValue, directory.Contacts, directory.Values, directory.Store,
        directory.Stored,
        JobOpen, FunctionData, TrancheOpen, LeaseGrant, ResultBatch, AttemptsEnded, Credit, Recall,
        DialBack, DialBackReport,
    ],
    FRAME_BYTES_MAX,
)  # fmt: skip
