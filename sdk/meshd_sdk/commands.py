"""Commands on the mesh: what is sent, and what comes back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from meshd_protocol.errors import MalformedMessage, ProtocolError
from meshd_protocol.ids import function_digest
from meshd_protocol.limits import FUNCTION_BYTES_MAX, UNIT_BYTES_MAX
from meshd_protocol.messages.local import SubmittedUnit
from meshd_protocol.programs import CommandCall, CommandProgram, Ended
from meshd_protocol.records import Record, encode_record
from meshd_protocol.wanted import Wanted
from meshd_sdk.errors import CommandFailed, MeshError, UnitFailed
from meshd_sdk.files import write_file
from meshd_sdk.functions import PickledFunction
from meshd_sdk.futures import MeshFuture
from meshd_sdk.inputs import FilePath, Inputs, name_on_node, read_inputs
from meshd_sdk.stream import UnitStream
from meshd_sdk.templates import fill, fill_command

T = TypeVar("T")


class CommandResult(Struct, frozen=True):
    """How a command ended. `files` are the outputs by their path in its folder; `argv` is what was run."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes
    files: dict[str, bytes]

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")

    def check(self) -> CommandResult:
        """This result; raise `CommandFailed` unless the exit code is 0."""
        if self.exit_code:
            raise CommandFailed(self.argv, self.exit_code, self.stdout, self.stderr)
        return self

    def save(self, folder: FilePath = ".") -> list[str]:
        """Write the files into a folder, over those that are there; return their paths.

        Raise `OSError` with the path that could not be written; a file is there in full or not at all.
        """
        written = []
        for path, data in self.files.items():
            place = os.path.join(folder, path)
            os.makedirs(os.path.dirname(place) or ".", exist_ok=True)
            write_file(place, data)
            written.append(place)
        return written


class ProgramFuture(MeshFuture[T]):
    """A future whose value is made from what the unit returned, which may be anything: its node may lie."""

    def __init__(self, stream: UnitStream, unit: SubmittedUnit | None, read: Callable[[Any], T]) -> None:
        super().__init__(stream, unit)
        self._read = read

    def end_returned(self, result: Any) -> None:
        """Give what it says, or the error."""
        try:
            value = self._read(result)
        except ProtocolError as error:
            failure = UnitFailed(f"unit {self.index} ended with something else than a program does: {error}")
            failure.__cause__ = error
            self.end_raised(failure)
        except MeshError as error:
            self.end_raised(error)
        else:
            super().end_returned(value)


def encode_program(program: Record) -> PickledFunction:
    """A program as it travels: once to each node, however many calls there are."""
    data = encode_record(program)
    if len(data) > FUNCTION_BYTES_MAX:
        raise ValueError(f"a program and its files are {len(data):,} bytes, {FUNCTION_BYTES_MAX:,} are allowed")
    return PickledFunction(data, function_digest(data))


def encode_call(call: Record) -> bytes:
    """A call as it travels."""
    payload = encode_record(call)
    if len(payload) > UNIT_BYTES_MAX:
        raise ValueError(
            f"a call and its files are {len(payload):,} bytes, {UNIT_BYTES_MAX:,} are allowed: split them, or put them "
            "where the nodes can read them"
        )
    return payload


def command_program(shared: Inputs, env: Mapping[str, str] | None) -> CommandProgram:
    """What all runs of a command have."""
    return CommandProgram(environment=environment_of(env), inputs=read_inputs(shared))


def command_call(argv: Sequence[FilePath], inputs: Inputs, outputs: Iterable[str], stdin: bytes | str) -> CommandCall:
    """What one run has. Raise `TypeError` or `ValueError` for what can be no command."""
    if isinstance(argv, str | bytes):
        raise TypeError(f"a command is a list, since no shell reads it: {argv.split()!r}, or ['sh', '-c', {argv!r}]")
    if isinstance(outputs, str):
        raise TypeError(f"outputs are a list: [{outputs!r}]")
    data = stdin.encode() if isinstance(stdin, str) else bytes(stdin)
    return CommandCall(
        tuple(os.fspath(argument) for argument in argv), inputs=read_inputs(inputs), outputs=tuple(outputs), stdin=data
    )


def call_for_file(argv: Sequence[str], path: FilePath, outputs: Iterable[str]) -> CommandCall:
    """The run of a command for one file, which is its input; `{}` is the path that it has there."""
    if isinstance(argv, str):
        return command_call(argv, (), outputs, b"")  # which says what is wrong with it
    name = name_on_node(path)
    filled = [fill(output, name) for output in ([outputs] if isinstance(outputs, str) else outputs)]
    return command_call(fill_command(argv, name), {name: path}, filled, b"")


def read_result(argv: tuple[str, ...], outputs: Iterable[str], check: bool) -> Callable[[Any], CommandResult]:
    """What makes a result of what a unit returned. A file that nobody asked for is refused: its node may lie."""
    wanted = Wanted(outputs)

    def read(value: Any) -> CommandResult:
        ended = Ended.of_value(value)
        for path in ended.files:
            if not wanted.means(path):
                raise MalformedMessage(f"the file {path!r}, which is none of the outputs that were asked for")
        result = CommandResult(argv, ended.exit_code, ended.stdout, ended.stderr, ended.files)
        return result.check() if check else result

    return read


def read_only_result(
    argv: tuple[str, ...], outputs: Iterable[str], check: bool
) -> Callable[[Any], list[CommandResult]]:
    """The same, as the only item of a chunk."""
    read = read_result(argv, outputs, check)
    return lambda value: [read(value)]


def environment_of(env: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Variables as a program holds them."""
    return tuple(sorted((env or {}).items()))
