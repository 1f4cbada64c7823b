"""What a daemon and one of its worker processes say to each other over their socket pair. Spec: 12-worker.md."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from meshd_protocol.framing import Channel, Message
from meshd_protocol.limits import (
    BATCH_UNITS_MAX,
    FUNCTION_BYTES_MAX,
    LOCAL_FRAME_BYTES_MAX,
)
from meshd_protocol.messages.attempts import AttemptStatus, Detail, Payload
from meshd_protocol.records import U32, U63

# Never used twice in a worker's life: a number that changed its meaning could reach units that wait.
FunctionNumber = U32


class LoadFunction(Message, frozen=True):
    """The daemon's name `number` for a pickled function, in this worker. Unpickled when a unit first needs it."""

    KIND = 0x60
    number: FunctionNumber
    data: Annotated[bytes, Meta(max_length=FUNCTION_BYTES_MAX)]


class WorkUnit(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One unit to run. `serial` is unique in this worker's life and rises."""

    serial: U63
    function: FunctionNumber
    payload: Payload


class RunUnits(Message, frozen=True):
    """Run these in order."""

    KIND = 0x61
    units: Annotated[list[WorkUnit], Meta(min_length=1, max_length=BATCH_UNITS_MAX)]


class WorkResult(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One unit's end: RETURNED, RAISED or, for a unit that was not started, HANDED_BACK.

    CRASHED is said only by a worker whose units have processes of their own.
    """

    serial: U63
    status: AttemptStatus
    value: Payload
    took_us: U63 = 0
    detail: Detail = ""


class UnitsRun(Message, frozen=True):
    """Results, not later than a few ms after the first of them was there."""

    KIND = 0x62
    results: Annotated[list[WorkResult], Meta(min_length=1, max_length=BATCH_UNITS_MAX)]


class Forget(Message, frozen=True):
    """Functions that will not be called again."""

    KIND = 0x63
    numbers: Annotated[list[FunctionNumber], Meta(min_length=1, max_length=4096)]


class Ready(Message, frozen=True):
    """The worker has started. `uid` is what it runs as."""

    KIND = 0x64
    pid: U32
    uid: U32


WORKER: Final = Channel("worker", [LoadFunction, RunUnits, UnitsRun, Forget, Ready], LOCAL_FRAME_BYTES_MAX)
