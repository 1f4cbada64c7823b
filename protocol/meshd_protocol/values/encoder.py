"""From values to trees, without flattening anything in silence. Spec: 13-values.md, section 3."""

import dataclasses
import enum
import sys
from collections.abc import Iterable
from types import NoneType
from typing import TYPE_CHECKING, Final

from meshd_protocol.limits import VALUE_DEPTH_MAX
from meshd_protocol.values.exceptions import dismantle, readable
from meshd_protocol.values.scalars import SCALARS, lower_float, lower_integer, lower_scalar
from meshd_protocol.values.unfit import TooDeep, Unfit, type_name, unfit_type
from meshd_protocol.values.wire import INTEGER_MAX, INTEGER_MIN, Code, Ext, pack, pack_sequence

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_CARRIED: Final = SCALARS | {NoneType, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, slice}
_FREE: Final = frozenset({NoneType, bool, bytes})
# A dataclass that is also one of these has more content than its fields.
_CONTAINERS: Final = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
_LOCALS: Final = "<locals>"


def lower(value: object, depth: int = 0) -> object:
    """The tree of a value that stands inside `depth` containers; raise `Unfit` for what can not travel."""
    if type(value) not in _CARRIED:
        return _lower_instance(value, depth)
    match value:
        case None | bool() | bytes():
            return value
        case str():
            return lower_text(value)
        case int():
            return lower_integer(value)
        case float():
            return lower_float(value)
        case list():
            return _lower_items(value, depth)
        case dict():
            return _lower_dict(value, depth)
        case tuple():
            return Ext(Code.TUPLE, pack(_lower_items(value, depth)))
        case set() | frozenset():
            return Ext(Code.SET if type(value) is set else Code.FROZENSET, _pack_set(value, depth))
        case slice():
            return Ext(Code.SLICE, pack(_lower_items([value.start, value.stop, value.step], depth)))
    return lower_scalar(value)


def lower_text(text: str) -> str:
    """A text that has UTF-8 bytes."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Unfit("is text with a lone surrogate: return os.fsencode(...) of it") from error
    return text


def _lower_items(items: list[object] | tuple[object, ...], depth: int) -> list[object]:
    inner = _deeper(depth)
    if _needs_nothing(items):
        return list(items)
    lowered: list[object] = []
    try:
        for item in items:
            lowered.append(lower(item, inner))  # its length says which item was refused
    except Unfit as unfit:
        unfit.steps.append(f"[{len(lowered)}]")
        raise
    return lowered


def _needs_nothing(items: list[object] | tuple[object, ...]) -> bool:
    """Long rows of numbers are found to be their own trees by three passes in C."""
    kinds = set(map(type, items))
    if kinds == {int}:
        numbers: list[int] = items  # type: ignore[assignment]  # as `kinds` says
        return min(numbers) >= INTEGER_MIN and max(numbers) <= INTEGER_MAX
    if kinds == {float}:
        total: float = sum(items)  # type: ignore[arg-type]  # as `kinds` says
        return total == total  # noqa: PLR0124  # else there may be a NaN among them
    return kinds <= _FREE


def _lower_dict(value: dict[object, object], depth: int) -> dict[object, object]:
    inner = _deeper(depth)
    entries: list[tuple[bytes, object, object]] = []
    for key, item in value.items():
        lowered_key = _lower_key(key, inner)
        try:
            entries.append((pack(lowered_key), lowered_key, lower(item, inner)))
        except Unfit as unfit:
            unfit.steps.append(f"[{_show(key)}]")
            raise
    entries.sort(key=lambda entry: entry[0])
    _refuse_twins([packed for packed, _, _ in entries])
    return {key: item for _, key, item in entries}


def _lower_key(key: object, depth: int) -> object:
    try:
        return lower(key, depth)
    except Unfit as unfit:
        unfit.steps.append(".keys()")
        raise


def _pack_set(items: Iterable[object], depth: int) -> bytes:
    inner = _deeper(depth)
    try:
        packed = sorted(pack(lower(item, inner)) for item in items)
    except Unfit as unfit:
        unfit.steps.append(".pop()")
        raise
    _refuse_twins(packed)
    return pack_sequence(packed)


def _refuse_twins(packed: list[bytes]) -> None:
    """Two NaNs differ for Python and are one value here."""
    if len(set(packed)) != len(packed):
        raise Unfit("has two keys or items with one encoding, as two NaNs have: keep one of them")


def _deeper(depth: int) -> int:
    if depth >= VALUE_DEPTH_MAX:
        raise TooDeep(f"is nested deeper than {VALUE_DEPTH_MAX} levels, or holds itself: return something flatter")
    return depth + 1


def _show(key: object) -> str:
    """A key of a builtin type as Python writes it; nobody else's `__repr__` is run."""
    return repr(key)[:60] if type(key) in (str, int, bytes, bool, NoneType, float) else f"<{type_name(type(key))}>"


# --- instances of classes -----------------------------------------------------------------------------------------


def _lower_instance(value: object, depth: int) -> object:
    if isinstance(value, BaseException):
        return _lower_exception(value, depth)
    if isinstance(value, enum.Enum):
        return _lower_member(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return Ext(Code.NAMEDTUPLE, pack([*_global_name(value), _lower_items(tuple(value), depth)]))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _lower_dataclass(value, depth)
    numpy = sys.modules.get("numpy")
    if numpy is not None and (type(value) is numpy.ndarray or isinstance(value, numpy.generic)):
        from meshd_protocol.values.arrays import lower_array  # noqa: PLC0415  # loads numpy

        return lower_array(value)
    raise unfit_type(value)


def _lower_member(value: enum.Enum) -> Ext:
    if value.name not in type(value).__members__:
        raise Unfit(f"is a combination of {type_name(type(value))}: return its .value")
    return Ext(Code.ENUM, pack([*_global_name(value), value.name]))


def _lower_dataclass(value: "DataclassInstance", depth: int) -> Ext:
    if isinstance(value, _CONTAINERS):
        raise unfit_type(value)
    inner = _deeper(depth)
    names = [field.name for field in dataclasses.fields(value)]
    fields: dict[object, object] = {}
    for name in sorted(names, key=pack):
        try:
            fields[name] = lower(_read(value, name), inner)
        except Unfit as unfit:
            unfit.steps.append(f".{name}")
            raise
    return Ext(Code.DATACLASS, pack([*_global_name(value), fields]))


def _read(value: object, name: str) -> object:
    try:
        return getattr(value, name)
    except Exception as error:  # a field without a value, or a property of the user's that fails
        raise Unfit(f"can not be read ({type_name(type(error))}): give the field a value") from error


def _global_name(value: object) -> tuple[str, str]:
    kind = type(value)
    if _LOCALS in kind.__qualname__:
        raise Unfit(f"is a {type_name(kind)}, which only its function knows: define the class at the top of its module")
    return kind.__module__, kind.__qualname__


# --- exceptions ---------------------------------------------------------------------------------------------------


def _lower_exception(error: BaseException, depth: int) -> Ext:
    """Lenient, unlike all else: an exception arrives, if need be without some parts or with their type's name."""
    inner = _deeper(depth)
    parts = dismantle(error)
    arguments: list[object] = []
    for argument in parts.arguments:
        try:
            arguments.append(lower(argument, inner))
        except Unfit as unfit:
            _pass_on_depth(unfit, depth)
            arguments.append(readable(f"<{type_name(type(argument))}>"))
    attributes: dict[object, object] = {}
    for name in sorted(parts.attributes, key=pack):
        try:
            attributes[name] = lower(parts.attributes[name], inner)
        except Unfit as unfit:
            _pass_on_depth(unfit, depth)
    return Ext(Code.EXCEPTION, pack([parts.module, parts.qualname, arguments, list(parts.notes), attributes]))


def _pass_on_depth(unfit: Unfit, depth: int) -> None:
    """An exception that holds itself twice would be tried 2**64 times if every level replaced what lies too deep."""
    if isinstance(unfit, TooDeep) and depth > 0:
        raise unfit
