"""An executor over a session, with its options: what `Mesh` is, and what `Mesh.options` returns."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from msgspec.structs import replace

from meshd_protocol.ids import JobId
from meshd_protocol.messages.local import Ask, CancelJob, OpenJob, Question
from meshd_protocol.records import Needs, Runtime
from meshd_sdk.errors import MeshClosed
from meshd_sdk.functions import PickledFunction, pickle_function
from meshd_sdk.futures import MeshFuture, failed
from meshd_sdk.job import Job
from meshd_sdk.mapping import chunked, results_in_order
from meshd_sdk.options import Options
from meshd_sdk.payloads import call_payload, map_payload
from meshd_sdk.resources import Resources
from meshd_sdk.session import Session
from meshd_sdk.stream import MakeFuture, UnitStream

if TYPE_CHECKING:
    from meshd_sdk.commands import CommandResult
    from meshd_sdk.inputs import FilePath, Inputs
    from meshd_sdk.wasm import WasmModule

T = TypeVar("T")
P = ParamSpec("P")
# A daemon that is there names a job in milliseconds.
_NAMED_S: Final = 5.0


class MeshExecutor(Executor):
    """A `concurrent.futures.Executor` whose units run on the mesh, in one job that is opened by the first submit.

    Threads may share it. A fork of the process may use it too, over a connection of its own; futures that the parent
    made end there with `MeshClosed`. As with any executor, a future's callback must not wait for another future.
    """

    def __init__(self, session: Session, options: Options) -> None:
        self._session = session
        self._options = options
        self._lock = threading.Lock()
        self._stream: UnitStream | None = None  # of Python's units: every submit asks for it
        self._program_streams: dict[Runtime, UnitStream] = {}
        self._streams: list[UnitStream] = []
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn(*args, **kwargs)` on the mesh. What can not be pickled, or is too large, is the future's exception.

        Blocks while arguments of more than 512 MiB wait for their results.
        """
        stream = self._open_stream()
        try:
            function, payload = pickle_function(fn), call_payload(args, kwargs)
        except Exception as error:  # pickling runs the user's code, which may raise anything
            return failed(error)
        return stream.submit(function, payload)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = 1,
    ) -> Iterator[T]:
        """Yield `fn` of the first items, the second, and so on, in order; all are submitted at once.

        With `chunksize` above 1 that many calls travel as one unit, and end together. `chunksize=None` chooses: about
        256 chunks, of at most 1,024 calls each. For calls that take microseconds it is 100 times faster than 1.
        """
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"chunksize must be 1 or more, or None to have it chosen, not {chunksize}")
        chunks = [
            (self._submit_chunk(fn, chunk), len(chunk)) for chunk in chunked(zip(*iterables, strict=False), chunksize)
        ]
        return results_in_order(chunks, timeout)

    def command(
        self,
        argv: Sequence[FilePath],
        *,
        inputs: Inputs = (),
        shared: Inputs = (),
        outputs: Iterable[str] = (),
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        check: bool = False,
    ) -> Future[CommandResult]:
        """Run a program of the nodes, in a fresh folder that holds the inputs; no shell reads `argv`.

        `inputs` are paths (files, or folders with all that is in them), or a mapping from names to paths or bytes.
        `shared` are such, too, and travel once to each node, however many commands name the same ones. `outputs` are
        paths below the folder, or patterns with `*`, `?` and `**`: what of them the program leaves comes back in
        `CommandResult.files`. A nonzero exit code is a result like any other unless `check` is set.
        """
        from meshd_sdk import commands  # noqa: PLC0415  # loaded by those that run commands

        program = commands.encode_program(commands.command_program(shared, env))
        call = commands.command_call(argv, inputs, outputs, stdin)
        make = partial(commands.ProgramFuture, read=commands.read_result(call.argv, call.outputs, check))
        return self.submit_program(Runtime.COMMAND, program, commands.encode_call(call), make)

    def commands(
        self,
        argv: Sequence[str],
        each: Iterable[FilePath],
        *,
        shared: Inputs = (),
        outputs: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        check: bool = False,
        timeout: float | None = None,
    ) -> Iterator[CommandResult]:
        """Run a command for each of these files; yield the results in order. All are submitted at once.

        The file is an input. `{}` in `argv` and `outputs` is its path, `{.}` without its extension, `{/}` its name,
        `{//}` its folder, `{/.}` its name without extension. A command with none of them gets the path at its end.
        """
        from meshd_sdk import commands  # noqa: PLC0415  # as above

        program = commands.encode_program(commands.command_program(shared, env))
        chunks: list[tuple[Future[Any], int]] = []
        for path in each:
            call = commands.call_for_file(argv, path, outputs)
            make = partial(commands.ProgramFuture, read=commands.read_only_result(call.argv, call.outputs, check))
            chunks.append((self.submit_program(Runtime.COMMAND, program, commands.encode_call(call), make), 1))
        return results_in_order(chunks, timeout)

    def wasm(
        self,
        module: FilePath | bytes | bytearray,
        *,
        name: str = "",
        fuel: int | None = None,
        memory: str | int = "256MiB",
        shared: Inputs = (),
        env: Mapping[str, str] | None = None,
    ) -> WasmModule:
        """A WebAssembly module (a path, or its bytes), whose functions can be called and which can be run as a command.

        It computes the same on every node to the bit: it sees no clock, no randomness, and no file but its inputs.
        `fuel` bounds what one call computes (about one for each instruction, by default 10**12), `memory` what it uses.
        """
        from meshd_sdk.wasm import FUEL, WasmModule  # noqa: PLC0415  # loaded by those that use it

        return WasmModule(self, module, name, FUEL if fuel is None else fuel, memory, shared, env)

    def submit_program(
        self, runtime: Runtime, program: PickledFunction, payload: bytes, make: MakeFuture
    ) -> MeshFuture[Any]:
        """Submit a unit of another runtime than Python, as `command` and `WasmModule` encode it."""
        return self._program_stream(runtime).submit(program, payload, make)

    def cancel(self) -> None:
        """Cancel every job that this executor has under way, as `meshd cancel` does. Its futures end cancelled.

        Unlike units that are cancelled one by one, the job says so, too: it is `cancelled`, not `done`.
        """
        for job in self._jobs():
            self._session.ask(CancelJob(job))

    def progress(self) -> list[dict[str, Any]]:
        """What the daemon knows of each job that this executor has under way, as `meshd job --json` prints it."""
        return [self._session.ask(Ask(Question.JOB, job)) for job in self._jobs()]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for what was submitted, or cancel it first.

        `cancel_futures` also cancels what runs already: the mesh does not tell which units do.
        """
        with self._lock:
            self._closed = True
            streams = list(self._streams)
        for stream in streams:
            if cancel_futures:
                stream.cancel_all()
            stream.close()
        if wait:
            for stream in streams:
                stream.wait_until_drained()

    def options(
        self,
        *,
        replicas: int | None = None,
        quorum: int | None = None,
        trust: str | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        pure: bool | None = None,
        resources: Resources | None = None,
        name: str | None = None,
        own_process: bool | None = None,
        requirements: str | PathLike[str] | Sequence[str] | None = None,
    ) -> MeshExecutor:
        """An executor that shares this one's connection and runs its units like this; what is left out stays.

        `replicas` copies of each unit run on distinct nodes, and a result that `quorum` of them agree on is taken
        (by default a majority). `timeout` bounds each attempt in seconds, `retries` the attempts after a failed one;
        a command that reaches its timeout on a trusted node is not tried again (`UnitTimedOut`).
        `pure=False` runs each unit at most once. `requirements` (a file's path, or a list such as ["numpy==2.1"]) are
        packages that units import: they are locked here, which may take seconds, and each node builds them once.
        With `own_process` each unit runs in a process of its own, forked from one that has loaded the function: nothing
        that it changes or breaks meets another. That costs about a millisecond, and is what units with GPUs have.
        Shut down by itself or together with the `Mesh` it came from.
        """
        given = {
            "replicas": replicas, "quorum": quorum, "trust": trust, "timeout": timeout, "retries": retries,
            "pure": pure, "resources": resources, "name": name, "own_process": own_process,
        }  # fmt: skip
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if requirements is not None:
            from meshd_sdk.environments import lock_of  # noqa: PLC0415  # loaded by those that use it

            changes["lock"] = lock_of(requirements)
        return MeshExecutor(self._session, replace(self._options, **changes))

    def job(self, fn: Callable[[Any], Any], inputs: Iterable[Any], *, name: str = "") -> Job:
        """Run `fn(each)` for each input, as a job that outlives this program; its id finds it again (`Mesh.attach`).

        Unlike `submit`, what can not be pickled or is too large is raised here, and nothing of the job is left.
        """
        if self._closed:
            raise MeshClosed("cannot schedule new futures after shutdown")
        options = replace(self._options, name=name or self._options.name or _name_of(fn))
        function = pickle_function(fn)
        stream = UnitStream(self._session.link(), _opening(options, options.needs, detached=True), kept=True)
        try:
            if options.lock:
                stream.ship(options.lock)
            for each in inputs:
                stream.submit(function, call_payload((each,), {}))
        except BaseException:
            stream.cancel_all()
            raise
        finally:
            stream.close()
        return Job(self._session, stream)

    def _jobs(self) -> list[JobId]:
        """The jobs under way that the daemon has named; it does so at once."""
        with self._lock:
            streams = [each for each in self._streams if not each.is_drained]
        wait_for([each.opened for each in streams], _NAMED_S)
        return [each.opened.result() for each in streams if each.opened.done() and not each.opened.exception()]

    def _submit_chunk(self, fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> Future[Any]:
        stream = self._open_stream()
        try:
            function, payload = pickle_function(fn), map_payload(chunk)
        except Exception as error:  # as in submit
            return failed(error)
        return stream.submit(function, payload)

    def _open_stream(self) -> UnitStream:
        """The stream of this executor's job; a new one at first, and when the last is full or lost."""
        stream = self._stream
        if stream is not None and stream.takes_units and not self._closed:
            return stream
        with self._lock:
            self._stream = self._renewed(self._stream, self._options.needs)
            return self._stream

    def _program_stream(self, runtime: Runtime) -> UnitStream:
        """The same for a runtime other than Python: a job has one runtime, and this executor a job for each it uses."""
        with self._lock:
            stream = self._renewed(self._program_streams.get(runtime), self._options.needs_for(runtime))
            self._program_streams[runtime] = stream
            return stream

    def _renewed(self, stream: UnitStream | None, needs: Needs) -> UnitStream:
        if self._closed:
            raise MeshClosed("cannot schedule new futures after shutdown")
        if stream is not None and stream.takes_units:
            return stream
        if stream is not None:
            stream.close()
        self._streams = [each for each in self._streams if not each.is_drained]
        stream = UnitStream(self._session.link(), _opening(self._options, needs, detached=False))
        if needs.environment:
            stream.ship(self._options.lock)
        self._streams.append(stream)
        return stream


def _opening(options: Options, needs: Needs, *, detached: bool) -> OpenJob:
    return OpenJob(options.name or _name_of_program(), options.policy, needs, detached)


def _name_of(fn: object) -> str:
    return str(getattr(fn, "__name__", type(fn).__name__))[:100]


def _name_of_program() -> str:
    return (sys.argv[0].rpartition("/")[2] if sys.argv else "")[:100] or "python"
