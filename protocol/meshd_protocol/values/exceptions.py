"""Exceptions taken apart and put together without running code of their classes. Spec: 13-values.md, section 4."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, MemberDescriptorType, NoneType, WrapperDescriptorType
from typing import Final

from meshd_protocol.limits import REASON_CHARS_MAX
from meshd_protocol.values.unfit import type_name

# What the interpreter keeps outside `args` and `__dict__`, and `__init__` alone would set.
_NATIVE_ATTRIBUTES: Final[tuple[tuple[type[BaseException], tuple[str, ...]], ...]] = (
    (OSError, ("errno", "strerror", "filename", "filename2")),
    (ImportError, ("name", "path")),
    (NameError, ("name",)),
    (AttributeError, ("name",)),
)
_ARGUMENTS: Final = BaseException.__dict__["args"]
_DICTIONARY: Final = BaseException.__dict__["__dict__"]
_NOTES: Final = "__notes__"
_SHOWN: Final = frozenset({bool, int, float, NoneType, bytes})
# Python refuses to print integers of more than 4,300 digits.
_SHOWN_BITS_MAX: Final = 4096


class RemoteError(Exception):
    """A unit raised an exception of a type that this process does not know or does not allow."""

    def __init__(self, type_name: str, text: str) -> None:
        """Keep both, in words: `type_name` is the type's full name, `text` what its arguments were."""
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


class RemoteTraceback(Exception):
    """The cause of a unit's exception: the traceback of the worker that ran it, as text."""

    def __init__(self, text: str) -> None:
        """Keep the text, which no program should parse."""
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}\n"""'


@dataclass(frozen=True, slots=True)
class Parts:
    """What of an exception travels."""

    module: str
    qualname: str
    arguments: Sequence[object]
    notes: Sequence[str]
    attributes: Mapping[str, object]

    @property
    def type_name(self) -> str:
        """The type's name as tracebacks write it."""
        return self.qualname if self.module == "builtins" else f"{self.module}.{self.qualname}"

    @property
    def text(self) -> str:
        """The arguments in words. No `__repr__` but those of plain types is run."""
        words = [_show(argument) for argument in self.arguments]
        return (words[0] if len(words) == 1 else f"({', '.join(words)})" if words else "")[:REASON_CHARS_MAX]


def dismantle(error: BaseException) -> Parts:
    """What of `error` can travel. Properties that its class may have put before them are not asked."""
    kind = type(error)
    dictionary: dict[object, object] = _DICTIONARY.__get__(error)
    notes = dictionary.get(_NOTES)
    attributes = {name: value for name, value in dictionary.items() if _is_plain_name(name)}
    for name, descriptor in _native_attributes(kind):
        value = descriptor.__get__(error)
        if value is not None:
            attributes[name] = value
    return Parts(
        module=readable(kind.__module__),
        qualname=readable(kind.__qualname__),
        arguments=_ARGUMENTS.__get__(error),
        notes=[readable(note) for note in notes if type(note) is str] if type(notes) is list else [],
        attributes={str(name): value for name, value in attributes.items()},
    )


def assemble(kind: type[BaseException], parts: Parts) -> BaseException:
    """Make an exception of this class by the interpreter's own `__new__` and `__init__`, not by the class's.

    Raise whatever those raise if the arguments are not for them.
    """
    arguments = tuple(parts.arguments)
    error: BaseException = _native(kind, "__new__", BuiltinFunctionType)(kind, *arguments)
    _native(kind, "__init__", WrapperDescriptorType)(error, *arguments)
    _ARGUMENTS.__set__(error, arguments)
    dictionary: dict[str, object] = _DICTIONARY.__get__(error)
    native = dict(_native_attributes(kind))
    for name, value in parts.attributes.items():
        if name in native:
            native[name].__set__(error, value)
        else:
            dictionary[name] = value
    if parts.notes:
        dictionary[_NOTES] = list(parts.notes)
    return error


def readable(text: str) -> str:
    """Text with escapes where it has no UTF-8 bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _native(kind: type, name: str, sort: type) -> Callable[..., BaseException]:
    """The nearest of a class's methods of this name that is written in C."""
    found: Callable[..., BaseException] = next(
        base.__dict__[name] for base in kind.__mro__ if isinstance(base.__dict__.get(name), sort)
    )
    return found


def _native_attributes(kind: type) -> list[tuple[str, MemberDescriptorType]]:
    return [
        (name, base.__dict__[name]) for base, names in _NATIVE_ATTRIBUTES if issubclass(kind, base) for name in names
    ]


def _is_plain_name(name: object) -> bool:
    return type(name) is str and not name.startswith("__") and readable(name) == name


def _show(argument: object) -> str:
    if type(argument) is str:
        return argument
    if type(argument) is int and argument.bit_length() > _SHOWN_BITS_MAX:
        return "<int>"
    return repr(argument) if type(argument) in _SHOWN else f"<{type_name(type(argument))}>"
