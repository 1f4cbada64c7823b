"""Trees of MessagePack: what a value is between Python and bytes. Spec: 13-values.md, section 2.

A tree is made of None, bool, int, float, str, bytes, list, dict and `Ext`; the same tree is always the same bytes. In
trees that were read, `Extension` stands where `Ext` stood.
"""

import itertools
import struct
from enum import IntEnum
from types import NoneType
from typing import Final

import msgpack

from meshd_protocol.errors import MalformedValue

Ext = msgpack.ExtType
NAN_BYTES: Final = bytes.fromhex("7ff8000000000000")
NAN: Final[float] = struct.unpack(">d", NAN_BYTES)[0]
# What MessagePack itself holds; integers beyond it are extensions.
INTEGER_MIN: Final = -(1 << 63)
INTEGER_MAX: Final = (1 << 64) - 1
# Below this, what hostile lengths make the unpacker allocate (30 nested headers, each of up to 256 items) is 64 KiB.
_SMALL_BYTES: Final = 256
# An extension with a header of ext 32, as large arrays have: spared two copies of it on the way out and on the way in.
_LARGE_BYTES: Final = 1 << 16
_LARGE_EXT: Final = 0xC9
_LARGE_HEADER: Final = struct.Struct(">BIb")


class Code(IntEnum):
    """The extension types. Numbers are never used again for something else."""

    INTEGER = 1
    COMPLEX = 2
    TUPLE = 3
    SET = 4
    FROZENSET = 5
    BYTEARRAY = 6
    RANGE = 7
    SLICE = 8
    DATE = 9
    TIME = 10
    DATETIME = 11
    TIMEDELTA = 12
    DECIMAL = 13
    FRACTION = 14
    UUID = 15
    ARRAY = 16
    ARRAY_SCALAR = 17
    ENUM = 18
    DATACLASS = 19
    NAMEDTUPLE = 20
    EXCEPTION = 21


class Extension:
    """An extension that was read. Its body is given away once, so that no level of a deep value keeps it alive.

    As a key it is unlike every other: whether two have the same bytes is for `check_rising` to say.
    """

    __slots__ = ("_body", "code")

    def __init__(self, code: int, body: bytes) -> None:
        """Negative codes are those of MessagePack itself; raise `MalformedValue` for one."""
        if code < 0:
            raise MalformedValue(f"extension {code} does not exist")
        self.code = code
        self._body: bytes | None = body

    def take(self) -> bytes:
        """The body, which from now on is the caller's alone."""
        body, self._body = self._body, None
        assert body is not None, "a body is taken once"
        return body

    def as_ext(self) -> msgpack.ExtType:
        """The same, to be packed again before the body is taken."""
        assert self._body is not None, "packed after its body was taken"
        return Ext(self.code, self._body)


def _packable(tree: object) -> object:
    if type(tree) is Extension:
        return tree.as_ext()
    raise TypeError(f"a tree holds no {type(tree).__name__}")


# A list or a map as a key can not be hashed; a timestamp can, with a hash that its sender chose.
_KEYS: Final = frozenset({NoneType, bool, int, float, str, bytes, Extension})
_PACKER: Final = msgpack.Packer(strict_types=True, default=_packable)


def pack(tree: object) -> bytes:
    """The bytes of a tree."""
    if isinstance(tree, Ext) and len(tree.data) >= _LARGE_BYTES:
        return b"".join((_LARGE_HEADER.pack(_LARGE_EXT, len(tree.data), tree.code), tree.data))
    packed: bytes = _PACKER.pack(tree)
    return packed


def pack_sequence(packed: list[bytes]) -> bytes:
    """The bytes of a list whose items are packed already."""
    header: bytes = _PACKER.pack_array_header(len(packed))
    return header + b"".join(packed)


def unpack(data: bytes) -> object:
    """The tree of these bytes, which are its only ones; raise `MalformedValue` for any others."""
    if len(data) > _LARGE_BYTES and data[0] == _LARGE_EXT:
        _, size, code = _LARGE_HEADER.unpack_from(data)
        if _LARGE_BYTES <= size == len(data) - _LARGE_HEADER.size and code >= 0:
            return Extension(code, data[_LARGE_HEADER.size :])
    try:
        if len(data) > _SMALL_BYTES:
            _check_lengths(data)
        tree: object = msgpack.unpackb(data, strict_map_key=False, object_pairs_hook=_build_map, ext_hook=Extension)
        again = pack(tree)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise MalformedValue(f"not a value: {error}") from error
    if again != data:
        raise MalformedValue("a value is not in its canonical form")
    return tree


def unpack_fields(data: bytes, count: int) -> list[object]:
    """The tree of a list of exactly `count` items."""
    tree = unpack(data)
    if type(tree) is not list or len(tree) != count:
        raise MalformedValue(f"an extension should hold a list of {count} items")
    return tree


def check_rising(packed: list[bytes]) -> None:
    """Maps and sets are sorted by encoding and have no item twice."""
    if any(first >= second for first, second in itertools.pairwise(packed)):
        raise MalformedValue("a map or set is not sorted by encoding, or has an item twice")


def _build_map(entries: list[tuple[object, object]]) -> dict[object, object]:
    """A map of keys that do not collide: text is salted, and of the numbers here only some hundreds share a hash."""
    if not {type(key) for key, _ in entries} <= _KEYS:
        raise MalformedValue("a map has a key that is a list, a map or a timestamp")
    return dict(entries)


def _check_lengths(data: bytes) -> None:
    """Walk over the whole without building anything, so that no announced length is believed before its items came."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(data))
    unpacker.feed(data)
    unpacker.skip()
