"""What a program and its own daemon say to each other over the local socket. Spec: 11-local.md.

Who the program is, the daemon learns from the kernel (SO_PEERCRED), never from a message. A stream is one request, or
one job for as long as the program holds it.
"""

from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from meshd_protocol.framing import Channel, Message
from meshd_protocol.ids import JobIdField, MeshIdField, NodeIdField
from meshd_protocol.limits import (
    BATCH_UNITS_MAX,
    FUNCTION_BYTES_MAX,
    JOB_FUNCTIONS_MAX,
    LOCAL_FRAME_BYTES_MAX,
)
from meshd_protocol.messages.attempts import Detail, Payload, Reason, UnitStatus
from meshd_protocol.records import U32, Name, Needs, Policy, UnitIndex


class ClientHello(Message, frozen=True):
    """First frame of a program."""

    KIND = 0x40
    versions: Annotated[list[U32], Meta(min_length=1, max_length=16)]
    client: Name


class Welcome(Message, frozen=True):
    """The daemon's answer to `ClientHello`."""

    KIND = 0x41
    version: U32
    node: NodeIdField
    mesh: MeshIdField
    name: Name
    release: Name


class OpenJob(Message, frozen=True):
    """Start a job on this stream. `detached`: it outlives the connection, and its results wait for `AttachJob`."""

    KIND = 0x42
    name: Name
    policy: Policy
    needs: Needs
    detached: bool


class JobOpened(Message, frozen=True):
    """The job has a manifest, and this daemon has it. Units may be sent before this arrives."""

    KIND = 0x43
    job: JobIdField


class DefineFunction(Message, frozen=True):
    """The program's name `number` for a pickled function, on this stream."""

    KIND = 0x44
    number: Annotated[int, Meta(ge=0, lt=JOB_FUNCTIONS_MAX)]
    data: Annotated[bytes, Meta(max_length=FUNCTION_BYTES_MAX)]


class SubmittedUnit(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One unit; its index is the count of units submitted on this stream before it."""

    function: Annotated[int, Meta(ge=0, lt=JOB_FUNCTIONS_MAX)]
    payload: Payload


class SubmitUnits(Message, frozen=True):
    """More units for the stream's job, in order."""

    KIND = 0x45
    units: Annotated[list[SubmittedUnit], Meta(min_length=1, max_length=4096)]


class Outcome(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """How one unit ended, once and for all."""

    index: UnitIndex
    status: UnitStatus
    value: Payload
    detail: Detail = ""


class UnitsEnded(Message, frozen=True):
    """Units of the stream's job that ended, in the order of their ends."""

    KIND = 0x46
    outcomes: Annotated[list[Outcome], Meta(min_length=1, max_length=BATCH_UNITS_MAX)]


class CancelUnits(Message, frozen=True):
    """These units are not wanted any more; each ends as CANCELLED unless it ended already."""

    KIND = 0x47
    indices: Annotated[list[UnitIndex], Meta(min_length=1, max_length=4096)]


class CloseJob(Message, frozen=True):
    """No more units will come. The job ends when its last unit does."""

    KIND = 0x48


class JobEnded(Message, frozen=True):
    """Nothing more will be said on this stream."""

    KIND = 0x49
    state: Name
    reason: Reason


class AttachJob(Message, frozen=True):
    """Tell me, on this stream, all outcomes of this job: those that wait and those to come."""

    KIND = 0x4A
    job: JobIdField


class CancelJob(Message, frozen=True):
    """Cancel every unit of a job. Answered with `Answer`."""

    KIND = 0x4B
    job: JobIdField


class Question(IntEnum):
    """What a program can ask; the answer is JSON as the CLI's `--json` prints it."""

    STATUS = 1
    PEERS = 2
    JOBS = 3
    JOB = 4
    WHY = 5
    LOOKUP = 6
    NETCHECK = 7


class Ask(Message, frozen=True):
    """A question. `job` and `index` where the question is about one; `text` is what is to be looked up."""

    KIND = 0x4C
    question: Question
    job: Annotated[bytes, Meta(max_length=20)] = b""
    index: Annotated[int, Meta(ge=-1)] = -1
    text: Name = ""


class Answer(Message, frozen=True):
    """JSON text in UTF-8."""

    KIND = 0x4D
    json: bytes


class DenialCode(IntEnum):
    """Why the daemon does not do what it was asked."""

    VERSION = 1
    NO_SUCH_JOB = 2
    NOT_YOURS = 3
    NOT_A_SUBMITTER = 4
    TOO_MUCH = 5
    DRAINING = 6
    PROTOCOL = 7
    NOT_FOUND = 8
    NOT_ALLOWED = 9
    UNUSABLE = 10


class Denial(Message, frozen=True):
    """The request on this stream is refused; on stream 0, the whole connection is, and it closes."""

    KIND = 0x4E
    code: DenialCode
    reason: Reason


class Revoke(Message, frozen=True):
    """Revoke a node: its id, the beginning of it, or its name. Answered with `Answer`. For root and the daemon's user.

    `operator` is needed for a node that this one has never heard of.
    """

    KIND = 0x4F
    node: Name
    operator: Name = ""
    reason: Name = ""


class Drain(Message, frozen=True):
    """Take no new work, or take work again. Answered with `Answer`. For root and the daemon's user."""

    KIND = 0x50
    on: bool


class Reload(Message, frozen=True):
    """Read the charter again, now. Answered with `Answer`. For root and the daemon's user."""

    KIND = 0x51


LOCAL: Final = Channel(
    "local",
    [
        ClientHello, Welcome, OpenJob, JobOpened, DefineFunction, SubmitUnits, UnitsEnded, CancelUnits, CloseJob,
        JobEnded, AttachJob, CancelJob, Ask, Answer, Denial, Revoke, Drain, Reload,
    ],
    LOCAL_FRAME_BYTES_MAX,
)  # fmt: skip
