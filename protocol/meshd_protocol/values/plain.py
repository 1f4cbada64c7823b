"""The fast path: scalars, and flat lists of them, need no extension and pass in C alone. Spec: 13-values.md, section 2.

The bytes are those of the long way, to which the same vectors hold it; msgspec packs a short list three times faster.
"""

from types import NoneType
from typing import Final

import msgspec

_SCALARS: Final = frozenset({NoneType, bool, int, float, str, bytes})
_PACK: Final = msgspec.msgpack.Encoder().encode
# msgspec's unions hold either str or bytes; byte strings take the long way.
_UNPACK: Final = msgspec.msgpack.Decoder(None | bool | int | float | str | list[bool | int | float | str | None]).decode
_FLOAT: Final = b"\xcb"
# First bytes of maps, byte strings, extensions and float32: not for `_UNPACK`, spare it the exception.
_LONG_WAY: Final = frozenset([*range(0x80, 0x90), *range(0xC4, 0xCB), *range(0xD4, 0xD9), 0xDE, 0xDF])
# None, booleans, small integers and the empty ones: a dictionary's answer is three times faster than any decoder's.
_TINY: Final[dict[bytes, object]] = {_PACK(value): value for value in (None, False, True, "", b"", *range(-32, 128))}


class NotPlain(Exception):
    """The value takes the long way."""


def encode_plain(value: object) -> bytes:
    """The bytes of a plain value; raise `NotPlain` for every other."""
    kind = type(value)
    if kind in _SCALARS:
        if value != value:  # noqa: PLR0124  # NaN, of which there are many patterns
            raise NotPlain
    elif kind is not list or not _is_flat(value):
        raise NotPlain
    try:
        return _PACK(value)
    except (OverflowError, UnicodeEncodeError) as error:  # an integer beyond 64 bits, a lone surrogate
        raise NotPlain from error


def decode_plain(data: bytes) -> object:
    """The value of a plain value's canonical bytes; raise `NotPlain` for all other bytes, good or bad."""
    if data in _TINY:
        return _TINY[data]
    if not data or data[0] in _LONG_WAY:
        raise NotPlain
    try:
        value: object = _UNPACK(data)
    except (ValueError, RecursionError) as error:
        raise NotPlain from error
    if _PACK(value) != data or (_FLOAT in data and _holds_nan(value)):
        raise NotPlain
    return value


def _is_flat(value: object) -> bool:
    assert isinstance(value, list)
    kinds = set(map(type, value))
    return kinds <= _SCALARS and not (float in kinds and _holds_nan(value))


def _holds_nan(value: object) -> bool:
    items = value if isinstance(value, list) else [value]
    return any(item != item for item in items)  # noqa: PLR0124  # only NaN is unlike itself
