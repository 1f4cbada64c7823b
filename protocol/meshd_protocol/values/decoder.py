"""From trees to values: any bytes are a value or are refused, and the sender runs nothing. Spec: 13-values.md.

The one code of others that may run is `__hash__` and `__eq__` of a class that `resolve` gave, where one of its
instances is a key or an item of a set.
"""

from typing import Final

from meshd_protocol.errors import MalformedValue, ValueRefused
from meshd_protocol.limits import VALUE_DEPTH_MAX
from meshd_protocol.values.exceptions import Parts, RemoteError, assemble
from meshd_protocol.values.instances import Resolve, build_dataclass, build_member, build_namedtuple, find
from meshd_protocol.values.scalars import SCALAR_CODES, build_scalar
from meshd_protocol.values.wire import NAN_BYTES, Code, Ext, check_rising, pack, unpack, unpack_fields

_NAN: Final = b"\xcb" + NAN_BYTES
# Python salts the hashes of these; those of numbers anybody can make collide.
_SALTED: Final = frozenset({str, bytes})
# A chain this long costs about 10 ms to build; honest keys do not come near it.
_SAME_HASH_MAX: Final = 1_000


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
            case Ext():
                return self._extension(tree.code, tree.data, depth)
            case list():
                return self._items(tree, depth)
            case dict():
                return self._dict(tree, depth)
        raise MalformedValue(f"a value holds a {type(tree).__name__} of MessagePack, which means nothing here")

    def _extension(self, code: int, body: bytes, depth: int) -> object:
        if code in SCALAR_CODES:
            return build_scalar(code, body)
        match code:
            case Code.TUPLE:
                return tuple(self._items(unpack(body), depth))
            case Code.SET:
                return self._set(body, depth)
            case Code.FROZENSET:
                return frozenset(self._set(body, depth))
            case Code.SLICE:
                return slice(*self._items(unpack_fields(body, 3), depth))
            case Code.ARRAY | Code.ARRAY_SCALAR:
                from meshd_protocol.values.arrays import build_array  # noqa: PLC0415  # loads numpy

                return build_array(code, body)
            case Code.ENUM | Code.DATACLASS | Code.NAMEDTUPLE:
                return self._instance(code, body, depth)
            case Code.EXCEPTION:
                return self.exception(body, depth)
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

    def _set(self, body: bytes, depth: int) -> set[object]:
        tree = unpack(body)
        if type(tree) is not list:
            raise MalformedValue("a set does not hold a list")
        check_rising([pack(item) for item in tree])
        items = _hashable(self._items(tree, depth))
        made = set(items)
        if len(made) != len(items):
            raise MalformedValue("a set has two items that Python takes for one")
        return made

    def _instance(self, code: int, body: bytes, depth: int) -> object:
        match code, unpack_fields(body, 3):
            case Code.ENUM, [str(module), str(qualname), str(name)]:
                return build_member(find(self._resolve, module, qualname), name)
            case Code.NAMEDTUPLE, [str(module), str(qualname), list(items)]:
                values = self._items(items, depth)
                return build_namedtuple(find(self._resolve, module, qualname), values)
            case Code.DATACLASS, [str(module), str(qualname), dict(fields)]:
                named = self._named(fields, depth)
                return build_dataclass(find(self._resolve, module, qualname), named)
        raise MalformedValue("not an instance")

    def _named(self, tree: dict[object, object], depth: int) -> dict[str, object]:
        if any(type(name) is not str for name in tree):
            raise MalformedValue("a field has a name that is not text")
        return {str(name): value for name, value in self._dict(tree, depth).items()}

    # --- exceptions -----------------------------------------------------------------------------------------------

    def exception(self, body: bytes, depth: int = 0) -> BaseException:
        """The exception of this extension, as `RemoteError` where its own type can not be had here."""
        module, qualname, arguments, notes, attributes = unpack_fields(body, 5)
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
    if len(hashes) - len(set(hashes)) > _SAME_HASH_MAX:
        raise MalformedValue("too many keys have the same hash")
    return items


def _deeper(depth: int) -> int:
    if depth >= VALUE_DEPTH_MAX:
        raise MalformedValue(f"a value is nested deeper than {VALUE_DEPTH_MAX} levels")
    return depth + 1
