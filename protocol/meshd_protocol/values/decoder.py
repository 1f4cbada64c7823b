"""From trees to values: any bytes are a value or are refused, and the sender runs nothing. Spec: 13-values.md.

The one code of others that may run is `__hash__` and `__eq__` of a class that `resolve` gave, where one of its
instances is a key or an item of a set.
"""

from collections import Counter
from typing import Final

from meshd_protocol.errors import MalformedValue, ValueRefused
from meshd_protocol.limits import VALUE_DEPTH_MAX
from meshd_protocol.values.exceptions import Parts, RemoteError, assemble
from meshd_protocol.values.instances import Resolve, build_dataclass, build_member, build_namedtuple, find
from meshd_protocol.values.scalars import SCALAR_CODES, build_scalar
from meshd_protocol.values.wire import NAN_BYTES, Code, Extension, check_rising, pack, unpack, unpack_fields

_NAN: Final = b"\xcb" + NAN_BYTES
# Python salts the hashes of these; those of numbers anybody can make collide.
_SALTED: Final = frozenset({str, bytes})
# Every key of a chain is compared with those before it. The honest keys that come closest are the powers of two, of
# which each 61st has the same hash.
_SAME_HASH_MAX: Final = 64


class Builder:
    """Builds values from trees with the classes that one caller allows."""

    def __init__(self, resolve: Resolve | None) -> None:
        """`resolve` finds classes; without it there are none."""
        self._resolve = resolve

    def build(self, tree: object, depth: int = 0) -> object:
        """The value of a tree that stands inside `depth` containers; raise `MalformedValue` or `ValueRefused`."""
        match tree:
            case None | bool() | int() | str() | bytes():
                return tree
            case float():
                if tree != tree and pack(tree) != _NAN:  # noqa: PLR0124  # only NaN is unlike itself
                    raise MalformedValue("a NaN is not in its canonical form")
                return tree
            case Extension():
                return self._extension(tree, depth)
            case list():
                return self._items(tree, depth)
            case dict():
                return self._dict(tree, depth)
        raise MalformedValue(f"a value holds a {type(tree).__name__} of MessagePack, which means nothing here")

    def _extension(self, tree: Extension, depth: int) -> object:
        # No frame keeps a body while it builds what was in it: 64 levels would hold a large one 64 times.
        code = tree.code
        if code in SCALAR_CODES:
            return build_scalar(code, tree.take())
        match code:
            case Code.TUPLE:
                return tuple(self._items(unpack(tree.take()), depth))
            case Code.SET:
                return self._set(unpack(tree.take()), depth)
            case Code.FROZENSET:
                return frozenset(self._set(unpack(tree.take()), depth))
            case Code.SLICE:
                return slice(*self._items(unpack_fields(tree.take(), 3), depth))
            case Code.ARRAY | Code.ARRAY_SCALAR:
                from meshd_protocol.values.arrays import build_array  # noqa: PLC0415  # loads numpy

                return build_array(code, tree.take())
            case Code.ENUM | Code.DATACLASS | Code.NAMEDTUPLE:
                return self._instance(code, unpack_fields(tree.take(), 3), depth)
            case Code.EXCEPTION:
                return self.exception(tree, depth)
        raise MalformedValue(f"extension {code} does not exist")

    def _items(self, tree: object, depth: int) -> list[object]:
        inner = _deeper(depth)
        if type(tree) is not list:
            raise MalformedValue("a sequence does not hold a list")
        return [self.build(item, inner) for item in tree]

    def _dict(self, tree: dict[object, object], depth: int) -> dict[object, object]:
        inner = _deeper(depth)
        check_rising([pack(key) for key in tree])
        keys = _hashable([self.build(key, inner) for key in tree])
        made = dict(zip(keys, [self.build(item, inner) for item in tree.values()], strict=True))
        if len(made) != len(keys):
            raise MalformedValue("a map has two keys that Python takes for one")
        return made

    def _set(self, tree: object, depth: int) -> set[object]:
        if type(tree) is not list:
            raise MalformedValue("a set does not hold a list")
        check_rising([pack(item) for item in tree])
        items = _hashable(self._items(tree, depth))
        made = set(items)
        if len(made) != len(items):
            raise MalformedValue("a set has two items that Python takes for one")
        return made

    def _instance(self, code: int, fields: list[object], depth: int) -> object:
        match code, fields:
            case Code.ENUM, [str(module), str(qualname), str(name)]:
                return build_member(find(self._resolve, module, qualname), name)
            case Code.NAMEDTUPLE, [str(module), str(qualname), list(items)]:
                values = self._items(items, depth)
                return build_namedtuple(find(self._resolve, module, qualname), values)
            case Code.DATACLASS, [str(module), str(qualname), dict(named_fields)]:
                named = self._named(named_fields, depth)
                return build_dataclass(find(self._resolve, module, qualname), named)
        raise MalformedValue("not an instance")

    def _named(self, tree: dict[object, object], depth: int) -> dict[str, object]:
        if any(type(name) is not str for name in tree):
            raise MalformedValue("a field has a name that is not text")
        return {str(name): value for name, value in self._dict(tree, depth).items()}

    # --- exceptions -----------------------------------------------------------------------------------------------

    def exception(self, tree: Extension, depth: int = 0) -> BaseException:
        """The exception of this extension, as `RemoteError` where its own type can not be had here."""
        module, qualname, arguments, notes, attributes = unpack_fields(tree.take(), 5)
        if not (isinstance(module, str) and isinstance(qualname, str) and isinstance(attributes, dict)):
            raise MalformedValue("not an exception")
        if not isinstance(notes, list) or any(type(note) is not str for note in notes):
            raise MalformedValue("an exception's notes are not texts")
        try:
            parts = Parts(module, qualname, self._items(arguments, depth), notes, self._named(attributes, depth))
        except ValueRefused as refused:
            unknown = Parts(module, qualname, [f"(its arguments can not be shown: {refused})"], notes, {})
            return _remote(unknown)
        kind = None if self._resolve is None else self._resolve(module, qualname)
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            return _remote(parts)
        try:
            return assemble(kind, parts)
        except Exception:  # the interpreter's own class does not take these arguments
            return _remote(parts)


def _remote(parts: Parts) -> RemoteError:
    error = RemoteError(parts.type_name, parts.text)
    for note in parts.notes:
        error.add_note(note)
    return error


def _hashable(items: list[object]) -> list[object]:
    """The items, if a table of them can be built in linear time."""
    if set(map(type, items)) <= _SALTED:
        return items
    try:
        hashes = list(map(hash, items))
    except Exception as error:  # a list as a key, or a class of the caller's that can not be hashed
        raise MalformedValue(f"a key or an item of a set can not be hashed: {error}") from error
    # The longest chain is looked for only where there can be one: counting takes longer than building the table.
    if len(hashes) - len(set(hashes)) >= _SAME_HASH_MAX and max(Counter(hashes).values()) > _SAME_HASH_MAX:
        raise MalformedValue(f"more than {_SAME_HASH_MAX} keys or items of a set have the same hash")
    return items


def _deeper(depth: int) -> int:
    if depth >= VALUE_DEPTH_MAX:
        raise MalformedValue(f"a value is nested deeper than {VALUE_DEPTH_MAX} levels")
    return depth + 1
