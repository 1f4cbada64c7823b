"""Arrays of numpy: type, shape and raw bytes, little-endian, in C order. Spec: 13-values.md, section 5.

Loaded with the first array, since it loads numpy.
"""

import math
import re
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from meshd_protocol.errors import MalformedValue
from meshd_protocol.limits import MIB
from meshd_protocol.values.unfit import Unfit
from meshd_protocol.values.wire import Code, Ext, pack, unpack_fields

# Of any dtype: which one, only the array itself knows.
_Array = NDArray[Any]
_HEADER_LENGTH_BYTES: Final = 2
_HEADER_BYTES_MAX: Final = (1 << 16) - 1
# Not object (pickles), not long double (its padding is garbage, and it differs between machines), not the new strings.
_ITEM: Final = re.compile(r"([<|][biuSUV]|<[fc]|[<][mM])([0-9]{1,8})(\[[0-9]{0,9}[A-Za-z]{1,7}\])?")
_FLOAT_BYTES: Final = {"f": (2, 4, 8), "c": (8, 16)}
# By size of a float: the integers of its bits, and those of the one NaN.
_BITS: Final[dict[int, type[np.unsignedinteger]]] = {2: np.uint16, 4: np.uint32, 8: np.uint64}
_NAN_BITS: Final = {2: 0x7E00, 4: 0x7FC00000, 8: 0x7FF8000000000000}
_FIELDS_MAX: Final = 256
_TYPE_DEPTH_MAX: Final = 8
# An empty array of huge strings would allocate what its bytes do not pay for.
_EMPTY_BYTES_MAX: Final = MIB


def lower_array(value: object) -> Ext:
    """An array or a numpy scalar as an extension."""
    code = Code.ARRAY if type(value) is np.ndarray else Code.ARRAY_SCALAR
    array: _Array = np.asarray(value)
    if code == Code.ARRAY_SCALAR and array.dtype.kind in "SU":
        array = np.asarray(array[()])  # as numpy reads it back: without trailing zeros
    tree, packed_type = _described(array.dtype)
    header = pack([tree, list(array.shape)])
    if len(header) > _HEADER_BYTES_MAX:
        raise Unfit("is an array with a type too long to write: return its fields as arrays of their own")
    if array.size == 0 and _paid_bytes(array.shape, packed_type) > _EMPTY_BYTES_MAX:
        raise Unfit("is an empty array of enormous items: return None or an array of shape (0,)")
    plain = np.ascontiguousarray(array, dtype=packed_type).reshape(array.shape)
    if not _is_canonical(plain):
        plain = plain.copy()
        _make_canonical(plain)
    return Ext(code, b"".join((len(header).to_bytes(_HEADER_LENGTH_BYTES, "big"), header, _bytes_of(plain))))


def build_array(code: int, body: bytes) -> object:
    """The array or scalar of an extension; raise `MalformedValue` for anything else. The array is writable."""
    start = _HEADER_LENGTH_BYTES + int.from_bytes(body[:_HEADER_LENGTH_BYTES], "big")
    if start > len(body):
        raise MalformedValue("an array's header is cut short")
    tree, shape = unpack_fields(body[_HEADER_LENGTH_BYTES:start], 2)
    kind = _checked_type(tree)
    dimensions = _checked_shape(shape, kind, len(body) - start)
    try:
        flat: _Array = (
            np.frombuffer(body, kind, math.prod(dimensions), start) if len(body) > start else np.empty(0, kind)
        )
        array: _Array = flat.reshape(dimensions)
    except (ValueError, TypeError, OverflowError) as error:
        raise MalformedValue(f"not an array: {error}") from error
    if not _is_canonical(array):
        raise MalformedValue("an array holds a NaN or a boolean that is not in its canonical form")
    if code == Code.ARRAY:
        return array.copy()
    if dimensions:
        raise MalformedValue("a scalar has no shape")
    scalar = array.copy()[()]
    if kind.kind in "SU" and np.asarray(scalar).dtype != kind:
        # Numpy's texts end before their trailing zeros: this one would be written shorter.
        raise MalformedValue("a text scalar longer than its text")
    return scalar


def _bytes_of(array: _Array) -> memoryview:
    """The bytes of an array in C order, not copied. Dates do not lend their bytes; the same bytes as numbers do."""
    return array.reshape(-1).view(np.uint8).data


# --- types --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _described(kind: np.dtype[np.generic]) -> tuple[object, np.dtype[np.generic]]:
    """What is written of a type, and the packed type that it says."""
    tree = _lower_type(kind)
    return tree, _build_type(tree)


def _lower_type(kind: np.dtype[np.generic], depth: int = 0) -> object:
    """Text for a plain type, [[name, type, shape], ...] for a structured one. Offsets and padding are not carried."""
    if depth > _TYPE_DEPTH_MAX or (kind.names is not None and not 0 < len(kind.names) <= _FIELDS_MAX):
        raise Unfit(f"is an array whose type nests too deep, or does not have 1 to {_FIELDS_MAX} fields")
    if kind.names is not None and kind.fields is not None:
        fields: list[object] = []
        for name in kind.names:
            inner, shape = kind.fields[name][0], ()
            if inner.subdtype is not None:
                inner, shape = inner.subdtype
            fields.append([name, _lower_type(inner, depth + 1), list(shape)])
        return fields
    text = kind.newbyteorder("<").str
    if not _is_item(text):
        raise Unfit(f"is an array of type {kind}, which can not travel: convert it with .astype or .tolist()")
    return text


def _is_item(text: str) -> bool:
    match = _ITEM.fullmatch(text)
    if match is None or int(match[2]) == 0 or (match[3] is not None and match[1][-1] not in "mM"):
        return False
    return int(match[2]) in _FLOAT_BYTES.get(match[1][-1], (int(match[2]),))


def _build_type(tree: object, depth: int = 0) -> np.dtype[np.generic]:
    """The packed type that `_lower_type` wrote."""
    if isinstance(tree, str) and _is_item(tree):
        return np.dtype(tree)
    if not isinstance(tree, list) or not 0 < len(tree) <= _FIELDS_MAX or depth > _TYPE_DEPTH_MAX:
        raise MalformedValue("not an array's type")
    fields: list[tuple[str, np.dtype[np.generic], tuple[int, ...]]] = []
    for field in tree:
        match field:
            case [str(name), inner, list(shape)] if name:
                fields.append((name, _build_type(inner, depth + 1), tuple(shape)))
            case _:
                raise MalformedValue("not a field of an array's type")
    return np.dtype(fields)


def _checked_type(tree: object) -> np.dtype[np.generic]:
    try:
        kind = _build_type(tree)
        again = _lower_type(kind)
    except (ValueError, TypeError, OverflowError, Unfit) as error:
        raise MalformedValue(f"not an array's type: {error}") from error
    if pack(again) != pack(tree) or kind.itemsize == 0:
        raise MalformedValue("an array's type is not in its canonical form")
    return kind


def _checked_shape(shape: object, kind: np.dtype[np.generic], length: int) -> tuple[int, ...]:
    """The shape, if these many bytes fill it."""
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise MalformedValue("not an array's shape")
    if math.prod(shape) * kind.itemsize != length:
        raise MalformedValue(f"an array of shape {shape} and type {kind} does not have {length} bytes")
    if length == 0 and _paid_bytes(shape, kind) > _EMPTY_BYTES_MAX:
        raise MalformedValue("an empty array of enormous items")
    return tuple(shape)


def _paid_bytes(shape: tuple[int, ...] | list[int], kind: np.dtype[np.generic]) -> int:
    """The size if no dimension were 0."""
    return math.prod(size for size in shape if size) * kind.itemsize


# --- contents -----------------------------------------------------------------------------------------------------


def _is_canonical(array: _Array) -> bool:
    """Every NaN has the one pattern, every boolean is 0 or 1."""
    if array.size == 0:
        return True
    return all(map(_nans_are_canonical, _floats(array))) and all(view.max() <= 1 for view in _booleans(array))


def _nans_are_canonical(floats: _Array) -> bool:
    nans = np.isnan(floats)
    if not nans.any():
        return True
    size = floats.dtype.itemsize
    return bool((floats.view(_BITS[size])[nans] == _NAN_BITS[size]).all())


def _make_canonical(array: _Array) -> None:
    for floats in _floats(array):
        size = floats.dtype.itemsize
        floats.view(_BITS[size])[np.isnan(floats)] = _NAN_BITS[size]
    for booleans in _booleans(array):
        booleans[:] = booleans != 0


def _floats(array: _Array) -> list[NDArray[np.floating]]:
    """Views of all floats in an array, however deep in its fields."""
    views: list[NDArray[np.floating]] = []
    for leaf in _leaves(array):
        if leaf.dtype.kind == "c":
            views += [leaf.real, leaf.imag]
        elif leaf.dtype.kind == "f":
            views.append(leaf)
    return views


def _booleans(array: _Array) -> list[NDArray[np.uint8]]:
    return [leaf.view(np.uint8) for leaf in _leaves(array) if leaf.dtype.kind == "b"]


def _leaves(array: _Array) -> list[_Array]:
    names = array.dtype.names
    return [array] if names is None else [leaf for name in names for leaf in _leaves(array[name])]
