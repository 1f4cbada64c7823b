"""Commands: a program of the node, or one that came with the unit, in a folder of its own. No shell is asked.

A nonzero exit code is a result. What a command started ends with it. Spec: 15-runtimes.md.
"""

import os
import selectors
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from meshd_node.exec import offspring
from meshd_node.exec.runtimes.folder import fresh_folder, read_outputs, write_inputs
from meshd_node.exec.runtimes.outputs import Budget
from meshd_node.exec.worker import Run, serve
from meshd_protocol.programs import CommandCall, CommandProgram, Ended, ProgramFailed, ProgramNotFound
from meshd_protocol.records import decode_record
from meshd_protocol.wanted import Wanted

_READ_BYTES: Final = 1 << 16
# Killed processes are gone in ms. One that the kernel holds, or a bomb that forks faster than it is put out, is left
# to whoever ends the worker.
_END_S: Final = 5.0


class CommandRuntime:
    """Runs commands one after the other in a folder below `scratch`, which is the worker's own."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def load(self, data: bytes) -> Run:
        """Read a program; its calls are read as they come."""
        program = decode_record(CommandProgram, data)

        def run(payload: bytes) -> object:
            call = CommandCall.of(program, decode_record(CommandCall, payload))
            return self._run(call).as_value()

        return run

    def _run(self, call: CommandCall) -> Ended:
        if not call.argv:
            raise ProgramFailed("a command has a program to run: its first argument")
        wanted, budget = Wanted(call.outputs), Budget()
        with fresh_folder(self._scratch / "work") as folder, fresh_folder(self._scratch / "tmp") as home:
            write_inputs(folder, call.inputs)
            with _started(call, folder, home) as process:
                stdout, stderr = _hear(process, budget)
            files = read_outputs(folder, wanted, budget)
        wanted.require(files, process.returncode)
        return Ended(process.returncode, stdout, stderr, files)


def main(sock: int, progress: int) -> None:
    """Serve as a worker whose units are commands."""
    offspring.adopt_orphans()  # else what a command leaves behind would be the zygote's, and outlive its unit
    serve(sock, progress, CommandRuntime(Path.cwd()).load)


@contextmanager
def _started(call: CommandCall, folder: Path, home: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """The process of a command, with all that came of it ended after."""
    places = {"HOME": str(home), "TMPDIR": str(home), "PWD": str(folder)}
    with tempfile.TemporaryFile(dir=home) as stdin:
        stdin.write(call.stdin)
        stdin.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603  # what workers are for
                call.argv,
                cwd=folder,
                env={**os.environ, **places, **dict(call.environment)},
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise _not_started(call.argv[0], error) from error
    try:
        yield process
    finally:
        _end(process)


def _not_started(program: str, error: OSError) -> ProgramFailed:
    if isinstance(error, FileNotFoundError):
        return ProgramNotFound(
            f"this node has no program {program!r}: install it on the nodes, or send it along as an input and call "
            f"./{program.rpartition('/')[2]}"
        )
    if isinstance(error, PermissionError):
        return ProgramNotFound(f"{program!r} may not be run on this node: is it executable?")
    return ProgramNotFound(f"{program!r} can not be run on this node: {error.strerror}")


def _hear(process: "subprocess.Popen[bytes]", budget: Budget) -> tuple[bytes, bytes]:
    """What it says until it ends, or says too much. What it left in the background is ended, not waited for."""
    assert process.stdout is not None
    assert process.stderr is not None
    pipes = [_Pipe(process.stdout, "its standard output"), _Pipe(process.stderr, "its standard error")]
    ended = os.pidfd_open(process.pid)
    with selectors.DefaultSelector() as waiting, ExitStack() as opened:
        opened.callback(os.close, ended)
        waiting.register(ended, selectors.EVENT_READ)
        for pipe in pipes:
            opened.enter_context(pipe.file)
            waiting.register(pipe.file, selectors.EVENT_READ, pipe)
        while process.returncode is None:
            for key, _ in waiting.select():
                if key.fd == ended:
                    _end(process)
                elif not key.data.read(budget):
                    waiting.unregister(key.fileobj)
        for pipe in pipes:
            pipe.drain(budget)
    return pipes[0].said(), pipes[1].said()


class _Pipe:
    """One of the streams that a command writes to."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.file = file
        self._name = name
        self._said: list[bytes] = []
        os.set_blocking(file.fileno(), False)

    def read(self, budget: Budget) -> bool:
        """Take some of what is there, as epoll has said; false at the end."""
        data = os.read(self.file.fileno(), _READ_BYTES)
        budget.take(len(data), self._name)
        self._said.append(data)
        return bool(data)

    def drain(self, budget: Budget) -> None:
        """Take all that is there."""
        with suppress(BlockingIOError):
            while self.read(budget):
                pass

    def said(self) -> bytes:
        """All of it."""
        return b"".join(self._said)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it, its group, and the orphans of both. One that has ended keeps its exit code."""
    if process.returncode is None:
        offspring.kill(process.pid)
        process.wait()
        offspring.end_all(_END_S)
