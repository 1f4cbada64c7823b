"""Units that are no Python: commands and WebAssembly, what they are given and what they leave. Spec: 15-runtimes.md.

A program travels as a job's function does, a call as a unit's payload; only a worker reads either.
"""

import re
from typing import Annotated, Final, Self, TypeAlias

import msgspec
from msgspec import Meta

from meshd_protocol.errors import MalformedMessage
from meshd_protocol.limits import (
    ARGUMENT_CHARS_MAX,
    ARGUMENTS_MAX,
    FILES_MAX,
    FUNCTION_BYTES_MAX,
    NAME_CHARS_MAX,
    OUTPUT_PATTERNS_MAX,
    PATH_CHARS_MAX,
    PATH_PART_BYTES_MAX,
    UNIT_BYTES_MAX,
    WASM_CALLS_MAX,
    WASM_MEMORY_BYTES_MAX,
    WASM_PAGE_BYTES,
    WASM_PARAMETERS_MAX,
)
from meshd_protocol.records import I63_MAX, U32_MAX, Record

# A variable's name, as every shell takes it.
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_WASM_MAGIC: Final = b"\0asm"
_WASM_VERSION: Final = b"\1\0\0\0"

Argument = Annotated[str, Meta(max_length=ARGUMENT_CHARS_MAX)]
Arguments = Annotated[tuple[Argument, ...], Meta(max_length=ARGUMENTS_MAX)]
Variable = tuple[Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)], Argument]
Path = Annotated[str, Meta(min_length=1, max_length=PATH_CHARS_MAX)]
Number = Annotated[int, Meta(ge=-I63_MAX - 1, le=I63_MAX)] | float


# --- what went wrong ----------------------------------------------------------------------------------------------


class ProgramFailed(Exception):
    """A program gave no result, by its own doing; the text says what it did and what to do. Travels as an exception."""


class ProgramNotFound(ProgramFailed):
    """The node has no such program, or it is not one that can run."""


class OutputTooLarge(ProgramFailed):
    """More was written than may travel."""


class OutputMissing(ProgramFailed):
    """The program said that all went well, and did not write a file that it should have written."""


class WasmTrap(ProgramFailed):
    """A WebAssembly module did what it must not: divided by zero, left its memory, ran out of stack."""


class OutOfFuel(WasmTrap):
    """A WebAssembly module computed more than it was given fuel for."""


# --- what a unit is given -----------------------------------------------------------------------------------------


class File(Record, frozen=True):
    """A file of the folder that a program runs in."""

    path: Path
    data: Annotated[bytes, Meta(max_length=UNIT_BYTES_MAX)]
    executable: bool = False

    def __post_init__(self) -> None:
        """Raise `ValueError` for a path that leads out of the folder."""
        check_path(self.path)


Environment = Annotated[tuple[Variable, ...], Meta(max_length=ARGUMENTS_MAX)]
Files = Annotated[tuple[File, ...], Meta(max_length=FILES_MAX)]
Patterns = Annotated[tuple[Path, ...], Meta(max_length=OUTPUT_PATTERNS_MAX)]


class CommandProgram(Record, frozen=True):
    """What the units of a command have in common. `argv` and the others go before those of each call."""

    argv: Arguments = ()
    environment: Environment = ()
    inputs: Files = ()
    outputs: Patterns = ()

    def __post_init__(self) -> None:
        """Raise `ValueError` for what no system would take."""
        _check(self.argv, self.environment, self.inputs, self.outputs)


class CommandCall(Record, frozen=True, tag=1):
    """One run of a command, or of a WebAssembly module as a command."""

    argv: Arguments = ()
    environment: Environment = ()
    inputs: Files = ()
    outputs: Patterns = ()
    stdin: Annotated[bytes, Meta(max_length=UNIT_BYTES_MAX)] = b""

    def __post_init__(self) -> None:
        """Raise `ValueError` for what no system would take."""
        _check(self.argv, self.environment, self.inputs, self.outputs)

    @classmethod
    def of(cls, program: "CommandProgram | WasmProgram", call: "CommandCall") -> Self:
        """All that a unit is given: what is common to all, then what is its own. Raise `MalformedMessage`."""
        try:
            return cls(
                program.argv + call.argv,
                program.environment + call.environment,
                program.inputs + call.inputs,
                program.outputs + call.outputs,
                call.stdin,
            )
        except ValueError as error:
            raise MalformedMessage(f"a call does not fit its program: {error}") from error


class WasmProgram(Record, frozen=True):
    """A WebAssembly module and its bounds. `argv` begins with the name that the module is told it has."""

    module: Annotated[bytes, Meta(min_length=8, max_length=FUNCTION_BYTES_MAX)]
    # Both are a part of what is computed: a module sees that memory does not grow.
    memory_bytes: Annotated[int, Meta(ge=WASM_PAGE_BYTES, le=WASM_MEMORY_BYTES_MAX)]
    fuel: Annotated[int, Meta(ge=1, le=I63_MAX)]
    argv: Arguments = ()
    environment: Environment = ()
    inputs: Files = ()
    outputs: Patterns = ()

    def __post_init__(self) -> None:
        """Raise `ValueError` for bytes that are no module, and as for a command."""
        check_module(self.module)
        _check(self.argv, self.environment, self.inputs, self.outputs)


class WasmCall(Record, frozen=True, tag=2):
    """Calls of one function that a module exports, each in an instance of its own."""

    function: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
    calls: Annotated[
        tuple[Annotated[tuple[Number, ...], Meta(max_length=WASM_PARAMETERS_MAX)], ...],
        Meta(min_length=1, max_length=WASM_CALLS_MAX),
    ]


WasmPayload: TypeAlias = CommandCall | WasmCall
_WASM_PAYLOAD: Final[msgspec.msgpack.Decoder[WasmPayload]] = msgspec.msgpack.Decoder(WasmPayload)


def decode_wasm_payload(payload: bytes) -> WasmPayload:
    """What one unit of a WebAssembly job does; raise `MalformedMessage` if it is neither."""
    try:
        return _WASM_PAYLOAD.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"not a call of a WebAssembly module: {error}") from error


# --- what a unit leaves -------------------------------------------------------------------------------------------


class Ended(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a program ended. It travels as a value of the safe codec, like any result: `as_value`, `of_value`."""

    # As a shell's; a program that a signal ended has the signal's number, negative.
    exit_code: Annotated[int, Meta(ge=-64, le=U32_MAX)]
    stdout: bytes
    stderr: bytes
    files: dict[str, bytes]

    def __post_init__(self) -> None:
        """Raise `ValueError` for a file that would lie outside of the folder that it is written to."""
        for path in self.files:
            check_path(path)

    def as_value(self) -> dict[str, object]:
        """What the unit returns."""
        return {"exit_code": self.exit_code, "stdout": self.stdout, "stderr": self.stderr, "files": self.files}

    @classmethod
    def of_value(cls, value: object) -> Self:
        """Read it; raise `MalformedMessage` for anything else."""
        try:
            return msgspec.convert(value, cls)
        except (msgspec.ValidationError, RecursionError) as error:
            raise MalformedMessage(f"not the end of a program: {error}") from error


# --- checks -------------------------------------------------------------------------------------------------------


def check_path(path: str) -> None:
    """Raise `ValueError` unless this names something below the folder that it is looked up in, in its only spelling."""
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise ValueError(f"a path of a unit's file is relative, without `.`, `..` or `//`, not {path!r}")
        if len(_utf8(part)) > PATH_PART_BYTES_MAX:
            raise ValueError(f"a file's name has at most {PATH_PART_BYTES_MAX} bytes, not {len(_utf8(part))}")
    _check_text(path)


def check_module(module: bytes) -> None:
    """Raise `ValueError` unless this begins like a WebAssembly core module."""
    if not module.startswith(_WASM_MAGIC):
        raise ValueError("not a WebAssembly module: it should begin with the bytes 00 61 73 6d")
    if module[4:8] != _WASM_VERSION:
        raise ValueError("a WebAssembly component, or of an unknown version: build a core module (WASI preview 1)")


def _check(argv: Arguments, environment: Environment, inputs: Files, outputs: Patterns) -> None:
    for text in argv:
        _check_text(text)
    for name, value in environment:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"a variable's name has letters, digits and _, not {name!r}")
        _check_text(value)
    for pattern in outputs:
        check_path(pattern)
    _check_distinct([file.path for file in inputs])


def _check_distinct(paths: list[str]) -> None:
    files = set(paths)
    if len(files) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(f"two files of one unit are named {twice!r}")
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in files:
                raise ValueError(f"{parent!r} is a file of the unit, and can not be the folder of {path!r}")
            parent = parent.rpartition("/")[0]


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("arguments, variables and paths hold no zero byte")
    _utf8(text)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{text!r} is no UTF-8, and does not travel") from error
