"""How an attempt or a unit can end: the words that all channels share. Spec: 07-jobs.md, section 2."""

from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from meshd_protocol.limits import REASON_CHARS_MAX, TRACEBACK_CHARS_MAX, UNIT_BYTES_MAX
from meshd_protocol.records import AttemptNumber, UnitIndex

Payload = Annotated[bytes, Meta(max_length=UNIT_BYTES_MAX)]
Reason = Annotated[str, Meta(max_length=REASON_CHARS_MAX)]
Detail = Annotated[str, Meta(max_length=TRACEBACK_CHARS_MAX)]


class AttemptStatus(IntEnum):
    """How one execution of a unit ended on its executor."""

    RETURNED = 0  # the function returned; `value` is its encoded result
    RAISED = 1  # the function raised; `value` is the encoded exception: an outcome like any other
    CRASHED = 2  # the worker died while it ran this unit; `detail` says how
    TIMED_OUT = 3  # it ran longer than the policy allows and was ended
    HANDED_BACK = 4  # it was not started: the executor drains, lost the worker before, or was told to forget it
    REFUSED = 5  # it will not be started here; `detail` says why
    INTERRUPTED = 6  # it may have run, and was ended for no fault of its own: the executor drains, or lends less now


# The ends that are results: they are compared, signed for and accepted. The others cost a retry elsewhere.
RESULTS: Final = frozenset({AttemptStatus.RETURNED, AttemptStatus.RAISED})


class UnitStatus(IntEnum):
    """How a unit ended for its submitter."""

    RETURNED = 0
    RAISED = 1
    FAILED = 2  # no result could be had; `detail` says what was tried
    CANCELLED = 3
    TIMED_OUT = 4  # a command ran for longer than it may; it is not tried again


class AttemptResult(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One attempt's end, as executors tell owners. `detail` explains (a traceback, a reason) and is never compared."""

    index: UnitIndex
    attempt: AttemptNumber
    status: AttemptStatus
    value: Payload
    took_us: Annotated[int, Meta(ge=0)] = 0
    detail: Detail = ""
