"""What simulated units do: a payload says how long it runs, and what comes of it."""

from enum import IntEnum

import msgspec
from msgspec import Struct

from meshd_protocol.ids import function_digest
from meshd_protocol.messages.attempts import AttemptStatus

# Every simulated unit calls this one: what differs between units is in their payloads.
FUNCTION = b"a simulated function"
FUNCTION_DIGEST = function_digest(FUNCTION)


class Kind(IntEnum):
    """What becomes of a unit that runs on an honest node."""

    RETURNS = 0
    RAISES = 1
    KILLS = 2  # it ends its worker, wherever it runs
    BABBLES = 3  # every run gives another value: a function that was not seeded
    HANGS = 4  # it never ends by itself


class Task(Struct, frozen=True, array_like=True, gc=False):
    """One payload. `index` is its unit's, so that whoever watches a worker knows what it runs."""

    kind: Kind
    index: int
    took_us: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Task)


def payload_of(task: Task) -> bytes:
    """The task as an argument."""
    return _ENCODER.encode(task)


def task_of(payload: bytes) -> Task:
    """The task that an argument is."""
    return _DECODER.decode(payload)


def right_result(task: Task) -> tuple[AttemptStatus, bytes]:
    """What every honest node says of a task that ends, and ends alike everywhere."""
    status = AttemptStatus.RAISED if task.kind is Kind.RAISES else AttemptStatus.RETURNED
    return status, b"right %d" % task.index
