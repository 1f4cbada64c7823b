"""A function's pickle, made again only when the function could have become another one.

A function pickled by value takes along the globals, closure and defaults it uses, and all of these may change between
two submits. So a pickle is kept only for functions of which everything that travels is *settled*: numbers, text,
installed modules, and classes, builtins and functions that travel by name, or functions that are settled themselves.
A `Snapshot` holds each of these by identity, and is compared before its pickle is used again. Whatever refers to a
list, an instance or a class of the user's is pickled anew each time; the bytes are sent once all the same, since they
are known by their digest. Annotations and docstrings are not watched: they do not change what a call does.
"""

import builtins
import sys
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any, Final

from msgspec import Struct

from meshd_protocol.ids import function_digest
from meshd_protocol.limits import FUNCTION_BYTES_MAX
from meshd_sdk.pickling import dump, is_users_own

_KEPT_MAX: Final = 256
_FUNCTIONS_WATCHED_MAX: Final = 64
_PLAIN: Final = frozenset({int, float, complex, bool, str, bytes, type(None), type(...)})
_ABSENT: Final = object()


class PickledFunction(Struct, frozen=True):
    """What `DefineFunction` carries, and what it is known by."""

    data: bytes
    digest: bytes


class _Unsettled(Exception):
    """Something that travels with the function may change without leaving a trace."""


class _Snapshot(Struct, frozen=True, eq=False):
    """A function and all that travels with it, by identity."""

    function: Callable[..., Any]
    pickled: PickledFunction
    parts: tuple[tuple[FunctionType, CodeType, tuple[Any, ...] | None], ...]
    names: tuple[tuple[dict[str, Any], str, object], ...]
    cells: tuple[tuple[CellType, object], ...]

    def holds(self) -> bool:
        """Whether pickling the function now would give the same function; a cell may have been emptied meanwhile."""
        for part, code, defaults in self.parts:
            if part.__code__ is not code or part.__defaults__ is not defaults or part.__kwdefaults__ or part.__dict__:
                return False
        for scope, name, value in self.names:
            if scope.get(name, _ABSENT) is not value:
                return False
        try:
            for cell, value in self.cells:
                if cell.cell_contents is not value:
                    return False
        except ValueError:
            return False
        return True


_kept: dict[int, _Snapshot] = {}


def pickle_function(function: Callable[..., Any]) -> PickledFunction:
    """Pickle by name what every node has, by value what only this process has; raise what pickling raises."""
    snapshot = _kept.get(id(function))
    if snapshot is not None and snapshot.function is function and snapshot.holds():
        return snapshot.pickled
    watch = _Watch()
    try:
        watch.value(function)
    except (_Unsettled, ValueError):  # ValueError: a cell that is still empty
        return _pickle(function)
    # Pickled after it was looked at: a change in between makes the snapshot stale, never the pickle.
    pickled = _pickle(function)
    if len(_kept) >= _KEPT_MAX:
        _kept.pop(next(iter(_kept), 0), None)
    _kept[id(function)] = _Snapshot(function, pickled, tuple(watch.parts), tuple(watch.names), tuple(watch.cells))
    return pickled


def _pickle(function: Callable[..., Any]) -> PickledFunction:
    if not callable(function):
        raise TypeError(f"a unit calls a function, and {function!r} can not be called")
    data = dump(function)
    if len(data) > FUNCTION_BYTES_MAX:
        raise ValueError(
            f"{getattr(function, '__qualname__', function)!r} and what it refers to are {len(data):,} bytes, "
            f"{FUNCTION_BYTES_MAX:,} are allowed: pass large data as an argument or in a file"
        )
    return PickledFunction(data, function_digest(data))


class _Watch:
    """Collects what travels with a function; raises `_Unsettled` at the first thing that can not be watched."""

    def __init__(self) -> None:
        self.parts: list[tuple[FunctionType, CodeType, tuple[Any, ...] | None]] = []
        self.names: list[tuple[dict[str, Any], str, object]] = []
        self.cells: list[tuple[CellType, object]] = []

    def value(self, value: object) -> None:
        """Watch one value that a function refers to."""
        if type(value) in _PLAIN or _travels_by_name(value):
            return
        if not isinstance(value, FunctionType):
            raise _Unsettled
        if all(value is not part for part, _, _ in self.parts):
            self._function(value)

    def _function(self, function: FunctionType) -> None:
        if len(self.parts) == _FUNCTIONS_WATCHED_MAX or function.__kwdefaults__ or function.__dict__:
            raise _Unsettled
        code, defaults = function.__code__, function.__defaults__
        self.parts.append((function, code, defaults))
        for default in defaults or ():
            self.value(default)
        for cell in function.__closure__ or ():
            content = cell.cell_contents
            self.cells.append((cell, content))
            self.value(content)
        scope = function.__globals__
        for name in set(_names(code)):
            found = scope.get(name, _ABSENT)
            self.names.append((scope, name, found))
            if found is not _ABSENT:
                self.value(found)


def _names(code: CodeType) -> Iterator[str]:
    """All names that the code may look up in its globals, and attributes of the same name: rather too many."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _travels_by_name(value: object) -> bool:
    """Whether a pickle of `value` is its module and name, so that nothing but these two can matter."""
    if isinstance(value, ModuleType):
        return sys.modules.get(value.__name__) is value and not is_users_own(value) and value.__name__ != "__main__"
    if not isinstance(value, type | FunctionType | BuiltinFunctionType):
        return False
    if getattr(builtins, value.__name__, None) is value:
        return True
    module = sys.modules.get(value.__module__ or "")
    if module is None or module.__name__ == "__main__" or is_users_own(module):
        return False
    found: object = module
    for step in value.__qualname__.split("."):
        found = getattr(found, step, None)
    return found is value
