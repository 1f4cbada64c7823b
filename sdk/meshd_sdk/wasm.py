"""WebAssembly on the mesh: a module, its functions on numbers, and itself as a command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from meshd_protocol.programs import WasmCall, WasmProgram
from meshd_protocol.records import Runtime
from meshd_sdk.commands import (
    CommandResult,
    ProgramFuture,
    command_call,
    encode_call,
    encode_program,
    environment_of,
    read_result,
)
from meshd_sdk.errors import UnitFailed
from meshd_sdk.inputs import FilePath, Inputs, read_inputs
from meshd_sdk.mapping import chunked, results_in_order
from meshd_sdk.resources import Resources

if TYPE_CHECKING:
    from meshd_sdk.executor import MeshExecutor

# An empty loop of so many rounds takes some minutes; work that needs more says so.
FUEL: Final = 10**12
MEMORY: Final = "256MiB"


class WasmModule:
    """Made by `Mesh.wasm`. Each call begins in a fresh instance; its result is the same on every node to the bit."""

    def __init__(
        self,
        executor: MeshExecutor,
        module: FilePath | bytes | bytearray,
        name: str,
        fuel: int,
        memory: str | int,
        shared: Inputs,
        env: Mapping[str, str] | None,
    ) -> None:
        data, found = (bytes(module), "module.wasm") if isinstance(module, bytes | bytearray) else _read(module)
        self._executor = executor
        self._name = name or found
        self._program = encode_program(
            WasmProgram(
                data,
                Resources(memory=memory).memory_bytes,
                fuel,
                (self._name,),
                environment_of(env),
                read_inputs(shared),
            )
        )

    def call(self, function: str, *arguments: int | float) -> Future[Any]:
        """Call an exported function with numbers: one result as a number, several as a list, none as None."""
        return self._submit(WasmCall(function, (arguments,)), _only)

    def map(
        self,
        function: str,
        *iterables: Iterable[int | float],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[Any]:
        """Yield the function's results for the first numbers, the second, and so on, in order, as `Mesh.map` does."""
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"chunksize must be 1 or more, or None to have it chosen, not {chunksize}")
        chunks = [
            (self._submit(WasmCall(function, tuple(chunk)), _unchanged), len(chunk))
            for chunk in chunked(zip(*iterables, strict=False), chunksize)
        ]
        return results_in_order(chunks, timeout)

    def run(
        self,
        arguments: Sequence[FilePath] = (),
        *,
        inputs: Inputs = (),
        outputs: Iterable[str] = (),
        stdin: bytes | str = b"",
        check: bool = False,
    ) -> Future[CommandResult]:
        """Run the module as a command (WASI preview 1). All as for `Mesh.command`; its files lie in memory."""
        call = command_call(arguments, inputs, outputs, stdin)
        return self._submit(call, read_result((self._name, *call.argv), call.outputs, check))

    def _submit(self, call: Any, read: Any) -> Future[Any]:
        return self._executor.submit_program(
            Runtime.WASM, self._program, encode_call(call), partial(ProgramFuture, read=read)
        )


def _read(path: FilePath) -> tuple[bytes, str]:
    with open(path, "rb") as file:
        return file.read(), os.path.basename(path)


def _only(results: Any) -> Any:
    if type(results) is not list or len(results) != 1:
        raise UnitFailed("a call of a WebAssembly function ended with something else than its result")
    return results[0]


def _unchanged(results: Any) -> Any:
    return results
