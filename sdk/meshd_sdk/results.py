"""From the end of a unit, as the daemon tells it, to the end of its future. Spec: 13-values.md."""

import dataclasses
import enum
import sys
from typing import Any, assert_never

from meshd_protocol.errors import ProtocolError
from meshd_protocol.messages.attempts import UnitStatus
from meshd_protocol.messages.local import Outcome
from meshd_protocol.values import decode, decode_exception
from meshd_sdk.errors import MeshError, UnitFailed, UnitTimedOut
from meshd_sdk.futures import MeshFuture


def settle(future: MeshFuture[Any], outcome: Outcome) -> None:
    """End the future as the unit ended. Never raises: what can not be read ends it with `UnitFailed`."""
    match outcome.status:
        case UnitStatus.RETURNED:
            try:
                value = decode(outcome.value, loaded_class)
            except (ProtocolError, MemoryError, RecursionError) as error:
                future.end_raised(_unreadable(outcome, error))
            else:
                future.end_returned(value)
        case UnitStatus.RAISED:
            future.end_raised(_exception(outcome))
        case UnitStatus.FAILED:
            future.end_raised(UnitFailed(f"unit {outcome.index}: {outcome.detail or 'no result could be had'}"))
        case UnitStatus.TIMED_OUT:
            future.end_raised(UnitTimedOut(outcome.detail or "it ran for longer than it may"))
        case UnitStatus.CANCELLED:
            future.end_cancelled()
        case _:
            assert_never(outcome.status)


def loaded_class(module: str, qualname: str) -> type | None:
    """The class of this name if this process has loaded it and it is of a sort that only holds data.

    Nothing is imported, and no `__getattr__` is asked: a result may name anything. Exceptions that are not an
    `Exception` are not given, and so arrive as `RemoteError`: a `SystemExit` of an executor's would end this program.
    """
    scope = vars(sys.modules[module]) if module in sys.modules else {}
    found: object = None
    for step in qualname.split("."):
        found = scope.get(step)
        if not isinstance(found, type):
            return None
        scope = dict(type.__getattribute__(found, "__dict__"))
    return found if isinstance(found, type) and _holds_data_only(found) else None


def _holds_data_only(kind: type) -> bool:
    if issubclass(kind, BaseException):
        return issubclass(kind, Exception)
    if issubclass(kind, enum.Enum) or dataclasses.is_dataclass(kind):
        return True
    return issubclass(kind, tuple) and "_fields" in vars(kind)


def _exception(outcome: Outcome) -> BaseException:
    try:
        return decode_exception(outcome.value, loaded_class, outcome.detail)
    except (ProtocolError, MemoryError, RecursionError) as error:
        return _unreadable(outcome, error)


def _unreadable(outcome: Outcome, error: Exception) -> MeshError:
    failure = UnitFailed(f"unit {outcome.index} ended, but its result can not be read: {error}")
    failure.__cause__ = error
    return failure
