"""Instances of classes that the caller allows, made without running their code. Spec: 13-values.md, section 4."""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from types import MemberDescriptorType

from meshd_protocol.errors import MalformedValue, ValueRefused

# From a module's name and a qualified name to the class, or None if it is not known or not allowed. Called with any
# text: it must not import anything, and must not run code of the classes it passes on the way.
Resolve = Callable[[str, str], type | None]


def find(resolve: Resolve | None, module: str, qualname: str) -> type:
    """The class of this name; raise `ValueRefused` if there is none for us."""
    found = None if resolve is None else resolve(module, qualname)
    if not isinstance(found, type):
        raise ValueRefused(
            f"a result holds a {module}.{qualname}, which this program has not loaded or does not allow: "
            f"import {module} before reading results, or return plain values"
        )
    return found


def build_dataclass(kind: type, values: Mapping[str, object]) -> object:
    """An instance with exactly the declared fields. Neither `__init__` nor `__setattr__` nor a property is run."""
    if not dataclasses.is_dataclass(kind):
        raise ValueRefused(f"{kind.__qualname__} is a dataclass where the result was made, and is none here")
    names = {field.name for field in dataclasses.fields(kind)}
    if names != values.keys():
        raise ValueRefused(
            f"{kind.__qualname__} has the fields {sorted(names)} here and {sorted(values)} where the result was made: "
            "use one version of its module"
        )
    try:
        made = object.__new__(kind)
        for name, value in values.items():
            _check_is_storage(kind, name)
            object.__setattr__(made, name, value)
    except (TypeError, AttributeError) as error:
        raise ValueRefused(f"a {kind.__qualname__} can not be made from its fields: {error}") from error
    return made


def build_namedtuple(kind: type, values: Sequence[object]) -> object:
    """A named tuple of these values."""
    fields = kind.__dict__.get("_fields") if issubclass(kind, tuple) else None
    if not isinstance(fields, tuple) or len(fields) != len(values):
        raise ValueRefused(f"{kind.__qualname__} is not a named tuple of {len(values)} fields here")
    return tuple.__new__(kind, values)


def build_member(kind: type, name: str) -> object:
    """The member of an enumeration under its own name."""
    if not issubclass(kind, enum.Enum) or name not in kind.__members__:
        raise ValueRefused(f"{kind.__qualname__} has no member {name!r} here")
    member = kind.__members__[name]
    if member.name != name:
        raise MalformedValue(f"{name!r} is an alias of {member.name!r}")
    return member


def _check_is_storage(kind: type, name: str) -> None:
    """A field behind a property, or behind any descriptor but a slot, would run the class's code."""
    for base in kind.__mro__:
        if name in base.__dict__:
            attribute = base.__dict__[name]
            if hasattr(type(attribute), "__set__") and not isinstance(attribute, MemberDescriptorType):
                raise TypeError(f"its field {name!r} is a property")
            return
