"""The safe codec: how results travel. One value is one byte string; reading it runs nobody's code. Spec: 13-values.md.

What can not travel is refused by name, place and remedy, never flattened in silence. Dictionaries travel as sets of
entries: sorted by encoding, so that two copies of a unit agree whatever order they were filled in.
"""

from typing import Final

from meshd_protocol.errors import MalformedValue, ValueRefused
from meshd_protocol.values.decoder import Builder
from meshd_protocol.values.encoder import lower
from meshd_protocol.values.exceptions import RemoteError, RemoteTraceback
from meshd_protocol.values.instances import Resolve
from meshd_protocol.values.plain import NotPlain, decode_plain, encode_plain
from meshd_protocol.values.unfit import Unfit
from meshd_protocol.values.wire import Code, Extension, pack, unpack

__all__ = [
    "RemoteError",
    "RemoteTraceback",
    "Resolve",
    "decode",
    "decode_exception",
    "encode",
    "encode_exception",
]

_TOO_DEEP: Final = "the call stack is too deep to read or write a result here: do it further up"


def encode(value: object) -> bytes:
    """The canonical bytes of a value; raise `ValueRefused` if a part of it can not travel."""
    try:
        return encode_plain(value)
    except NotPlain:
        return _encode_long(value)


def decode(data: bytes, resolve: Resolve | None = None) -> object:
    """The value of these bytes. Its classes come from `resolve` alone; without it there are none.

    Raise `MalformedValue` if the bytes are not the canonical bytes of some value, `ValueRefused` if they are but hold
    a class or a time zone that is not to be had here.
    """
    try:
        return decode_plain(data)
    except NotPlain:
        return _decode_long(data, resolve)


def encode_exception(error: BaseException) -> bytes:
    """The bytes of an exception, whatever it holds: arguments that can not travel are replaced by their type's name."""
    return _encode_long(error)


def decode_exception(data: bytes, resolve: Resolve, detail: str = "") -> BaseException:
    """The exception of these bytes, caused by a `RemoteTraceback` with `detail` if there is one.

    It is of its own type where `resolve` knows it, else a `RemoteError`. Raise `MalformedValue` if it is none.
    """
    tree = unpack(data)
    if not isinstance(tree, Extension) or tree.code != Code.EXCEPTION:
        raise MalformedValue("a unit that raised should send an exception")
    error = Builder(resolve).exception(tree)
    if detail:
        error.__cause__ = RemoteTraceback(detail)
    return error


def _encode_long(value: object) -> bytes:
    try:
        return pack(lower(value))
    except Unfit as unfit:
        raise ValueRefused(str(unfit)) from unfit
    except RecursionError as error:
        raise ValueRefused(_TOO_DEEP) from error


def _decode_long(data: bytes, resolve: Resolve | None) -> object:
    try:
        return Builder(resolve).build(unpack(data))
    except RecursionError as error:
        raise ValueRefused(_TOO_DEEP) from error
