"""Values without parts that MessagePack lacks: large integers, complex, times, decimals. Spec: 13-values.md, 3."""

import struct
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from fractions import Fraction
from typing import Final
from uuid import UUID

from meshd_protocol.errors import MalformedValue, ValueRefused
from meshd_protocol.limits import INTEGER_BYTES_MAX
from meshd_protocol.values.unfit import Unfit, unfit_type
from meshd_protocol.values.wire import INTEGER_MAX, INTEGER_MIN, NAN, Code, Ext, Extension, pack, unpack_fields

_COMPLEX: Final = struct.Struct(">dd")
# Of our own, so that neither the program's precision nor its `capitals` changes what a decimal's bytes are.
_CONTEXT: Final = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX, capitals=1)
_ZONE_CHARS_MAX: Final = 64
_ZONE_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-/")
_MICROSECOND: Final = timedelta(microseconds=1)
SCALARS: Final = frozenset(
    {complex, range, bytearray, date, time, datetime, timedelta, Decimal, Fraction, UUID},
)


def lower_float(value: float) -> float:
    """A float with the one NaN."""
    return value if value == value else NAN  # noqa: PLR0124  # only NaN is unlike itself


def lower_integer(value: int) -> object:
    """An integer as MessagePack has it or, beyond 64 bits, as two's complement in as few bytes as hold it."""
    if INTEGER_MIN <= value <= INTEGER_MAX:
        return value
    size = (value + (value < 0)).bit_length() // 8 + 1
    if size > INTEGER_BYTES_MAX:
        raise Unfit(f"is an integer of {size} bytes, {INTEGER_BYTES_MAX} are allowed: return it as bytes or as text")
    return Ext(Code.INTEGER, value.to_bytes(size, "big", signed=True))


def lower_scalar(value: object) -> Ext:
    """One of `SCALARS` as an extension."""
    match value:
        case bytearray():
            return Ext(Code.BYTEARRAY, bytes(value))
        case complex():
            return Ext(Code.COMPLEX, _COMPLEX.pack(lower_float(value.real), lower_float(value.imag)))
        case range():
            return Ext(Code.RANGE, _pack_integers(value.start, value.stop, value.step))
        case datetime():
            day = (value.year, value.month, value.day)
            return Ext(Code.DATETIME, pack([*day, *_clock(value)]))
        case date():
            return Ext(Code.DATE, pack([value.year, value.month, value.day]))
        case time():
            return Ext(Code.TIME, pack(_clock(value)))
        case timedelta():
            return Ext(Code.TIMEDELTA, pack([value.days, value.seconds, value.microseconds]))
        case Decimal():
            return Ext(Code.DECIMAL, _CONTEXT.to_sci_string(value).encode("ascii"))
        case Fraction():
            return Ext(Code.FRACTION, _pack_integers(value.numerator, value.denominator))
        case UUID():
            return Ext(Code.UUID, value.bytes)
    raise unfit_type(value)


def build_scalar(code: int, body: bytes) -> object:
    """The value of a scalar extension; raise `MalformedValue` if it has none, or if these are not its bytes."""
    try:
        value = _BUILDERS[code](body)
        again = lower_integer(value) if isinstance(value, int) else lower_scalar(value)
    except (ValueError, TypeError, ArithmeticError, struct.error, Unfit) as error:
        raise MalformedValue(f"not a {Code(code).name.lower()}: {error}") from error
    if again != Ext(code, body):
        raise MalformedValue(f"a {Code(code).name.lower()} is not in its canonical form")
    return value


def _pack_integers(*values: int) -> bytes:
    return pack([lower_integer(value) for value in values])


def _clock(value: datetime | time) -> list[object]:
    return [value.hour, value.minute, value.second, value.microsecond, value.fold, _lower_zone(value.tzinfo)]


def _lower_zone(zone: tzinfo | None) -> object:
    """None, an offset in µs, an offset and its name, or the key of a zone in the system's database."""
    if zone is None:
        return None
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]  # the documented state of a timezone
        microseconds = offset // _MICROSECOND
        return [microseconds, *name] if name else microseconds
    # Whoever holds a ZoneInfo has loaded zoneinfo; others are spared it.
    zoneinfo = sys.modules.get("zoneinfo")
    key: object = getattr(zone, "key", None)
    if zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo and _is_zone_key(key):
        return key
    raise Unfit("has a time zone that can not travel: use datetime.timezone or zoneinfo.ZoneInfo(key)")


def _is_zone_key(key: object) -> bool:
    return isinstance(key, str) and 0 < len(key) <= _ZONE_CHARS_MAX and _ZONE_LETTERS.issuperset(key)


def _build_zone(tree: object) -> tzinfo | None:
    match tree:
        case None:
            return None
        case int():
            return timezone(timedelta(microseconds=tree))
        case [int(offset), str(name)]:
            return timezone(timedelta(microseconds=offset), name)
        case str() if _is_zone_key(tree):
            return _zone(tree)
    raise MalformedValue("not a time zone")


def _zone(key: str) -> tzinfo:
    from zoneinfo import ZoneInfo  # noqa: PLC0415  # few values need it, and it takes 3 ms to load

    try:
        return ZoneInfo(key)
    except (LookupError, ValueError, OSError) as error:
        raise ValueRefused(f"the time zone {key!r} is not known on this machine: install tzdata") from error


def _integers(body: bytes, count: int) -> list[int]:
    return [_build_integer(tree) for tree in unpack_fields(body, count)]


def _build_integer(tree: object) -> int:
    if isinstance(tree, Extension) and tree.code == Code.INTEGER:
        return _build_large_integer(tree.take())
    if type(tree) is not int:
        raise MalformedValue("not an integer")
    return tree


def _build_large_integer(body: bytes) -> int:
    if len(body) > INTEGER_BYTES_MAX:
        raise MalformedValue(f"an integer of {len(body)} bytes, {INTEGER_BYTES_MAX} are allowed")
    return int.from_bytes(body, "big", signed=True)


def _build_datetime(body: bytes) -> datetime:
    *fields, zone = unpack_fields(body, 9)
    year, month, day, hour, minute, second, microsecond, fold = map(_build_integer, fields)
    return datetime(year, month, day, hour, minute, second, microsecond, _build_zone(zone), fold=fold)


def _build_time(body: bytes) -> time:
    *fields, zone = unpack_fields(body, 6)
    hour, minute, second, microsecond, fold = map(_build_integer, fields)
    return time(hour, minute, second, microsecond, _build_zone(zone), fold=fold)


_BUILDERS: Final[dict[int, Callable[[bytes], object]]] = {
    Code.INTEGER: _build_large_integer,
    Code.COMPLEX: lambda body: complex(*_COMPLEX.unpack(body)),
    Code.BYTEARRAY: bytearray,
    Code.RANGE: lambda body: range(*_integers(body, 3)),
    Code.DATE: lambda body: date(*_integers(body, 3)),
    Code.TIME: _build_time,
    Code.DATETIME: _build_datetime,
    Code.TIMEDELTA: lambda body: timedelta(*_integers(body, 3)),
    Code.DECIMAL: lambda body: Decimal(body.decode("ascii"), _CONTEXT),
    Code.FRACTION: lambda body: Fraction(*_integers(body, 2)),
    Code.UUID: lambda body: UUID(bytes=body),
}
SCALAR_CODES: Final = frozenset(_BUILDERS)
