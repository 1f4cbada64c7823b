"""Reads and writes a tree of frozen dataclasses as TOML tables. Every refusal names the key.

A field of the type `Path`, or `Path | None`, is no key: places come from the environment.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, get_type_hints

from meshd_node.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PLACES = (Path, Path | None)
Scalar: TypeAlias = str | int | float | bool | tuple[str, ...]
_TreeT = TypeVar("_TreeT", bound="DataclassInstance")

_WORDS: dict[object, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple[str, ...]: "a list of texts",
}


def build(
    kind: type[_TreeT], table: Mapping[str, object], where: str = "", above: Collection[str] = (), **places: Path | None
) -> _TreeT:
    """Make a `kind` of a TOML table and these places; what the table leaves out keeps its default.

    Of a table that is not the root, `where` is its path with a dot, and `above` are the root's own keys.
    """
    kinds = _kinds(kind)
    above = above or [key for key in kinds if not is_dataclass(kinds[key])]
    given: dict[str, Any] = dict(places)
    for key, value in table.items():
        path = where + key
        if key not in kinds:
            # Whoever adds a line adds it at the end, where it is the last table's.
            hint = f": {key} goes above the first [table]" if key in above else _nearest(path, known_keys(kind, where))
            raise ConfigError(f"unknown key {path}{hint}")
        is_table = is_dataclass(kinds[key])
        given[key] = _branch(kinds[key], value, path, above) if is_table else scalar(kinds[key], value, path)
    try:
        return kind(**given)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def leaves(kind: "type[DataclassInstance]", where: str = "") -> Iterator[tuple[tuple[str, ...], object]]:
    """(path, type) of every value that a tree of this kind can have."""
    for name, below in _kinds(kind).items():
        path = (*where.split(".")[:-1], name)
        if is_dataclass(below) and isinstance(below, type):
            yield from leaves(below, ".".join(path) + ".")
        else:
            yield path, below


def known_keys(kind: "type[DataclassInstance]", where: str = "") -> list[str]:
    """The keys that may stand in a table and in those below it."""
    return [".".join(path) for path, _ in leaves(kind, where)]


def scalar(kind: object, value: object, path: str) -> Scalar:
    """Check one value; raise `ConfigError` if it is of another sort than `kind`."""
    match value:
        case bool() if kind is bool:
            return value
        case int() if kind in (int, float) and not isinstance(value, bool):
            return value if kind is int else float(value)
        case float() if kind is float and math.isfinite(value):
            return value
        case str() if kind is str:
            return value
        case list() if kind == tuple[str, ...] and all(isinstance(item, str) for item in value):
            return tuple(value)
    raise ConfigError(f"{path} must be {_WORDS[kind]}, not {value!r}")


def parse(kind: object, text: str, path: str) -> Scalar:
    """Read one value as it stands in an environment variable; lists have commas."""
    if kind is str:
        return text
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is bool and text in ("true", "false", "1", "0"):
        return text in ("true", "1")
    try:
        return scalar(kind, int(text) if kind is int else float(text) if kind is float else text, path)
    except ValueError as error:
        raise ConfigError(f"{path} must be {_WORDS[kind]}, not {text!r}") from error


def render(tree: "DataclassInstance") -> str:
    """Write what differs from the defaults, each table under the first line of its dataclass' docstring."""
    return "".join(f"{line}\n" for line in _tables(tree, ""))


def _tables(tree: "DataclassInstance", name: str) -> Iterator[str]:
    keys = [field for field in fields(tree) if field.name in _kinds(type(tree))]
    changed = [field for field in keys if getattr(tree, field.name) != _default(field)]
    values = [field.name for field in changed if not is_dataclass(getattr(tree, field.name))]
    if name and values:
        yield f"\n# {_summary(tree)}\n[{name}]"
    for key in values:
        yield f"{key} = {_literal(getattr(tree, key))}"
    for field in changed:
        branch = getattr(tree, field.name)
        if is_dataclass(branch) and not isinstance(branch, type):
            yield from _tables(branch, f"{name}.{field.name}" if name else field.name)


def _kinds(kind: "type[DataclassInstance]") -> dict[str, Any]:
    """The type of each key, in the order of the fields."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind) if hints[field.name] not in _PLACES}


def _default(field: "Field[Any]") -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _branch(kind: Any, value: object, path: str, above: Collection[str]) -> object:
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must be a table, [{path}], not {value!r}")
    return build(kind, value, f"{path}.", above)


def _literal(value: object) -> str:
    # JSON's texts, lists, numbers and truth values are TOML's as well, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _summary(tree: object) -> str:
    return (type(tree).__doc__ or "").partition("\n")[0]


def _nearest(path: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415  # 10 ms of a daemon's start, for those who mistype

    near = difflib.get_close_matches(path, known, 1)
    return f": did you mean {near[0]}?" if near else f": known are {', '.join(known)}"
