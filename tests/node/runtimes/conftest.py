"""Workers of each runtime as processes of their own, driven through their sockets as a daemon does."""

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshd_protocol import values
from meshd_protocol.framing import FrameReader
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WORKER, LoadFunction, Ready, RunUnits, UnitsRun, WorkResult, WorkUnit
from meshd_protocol.programs import CommandCall, CommandProgram, Ended
from meshd_protocol.records import Record, encode_record
from meshd_protocol.values import decode_exception
from meshd_sdk.results import loaded_class

_MODULES = {
    "python": "meshd_node.exec.worker",
    "command": "meshd_node.exec.runtimes.command",
    "wasm": "meshd_node.exec.runtimes.wasm",
}


class DrivenWorker:
    """One worker. `run` and `end_of` give it one unit and wait for its end."""

    def __init__(self, runtime: str, scratch: Path, before: str = "") -> None:
        self.scratch = scratch
        ours, theirs = socket.socketpair()
        progress = os.memfd_create("progress")
        os.truncate(progress, 8)
        script = f"{before}\nfrom {_MODULES[runtime]} import main\nmain({theirs.fileno()}, {progress})"
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", script],
                pass_fds=(theirs.fileno(), progress),
                cwd=scratch,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
            )
        os.close(progress)
        ours.settimeout(30)
        self._socket = ours
        self._reader = FrameReader(WORKER.frame_bytes_max)
        self._serials = itertools.count(1)
        self._functions: dict[bytes, int] = {}
        self._results: dict[int, WorkResult] = {}
        assert isinstance(self._receive(), Ready)

    def run(self, function: bytes | Record, *payloads: bytes | Record) -> list[object]:
        """What units of one function returned; raise what the first of them raised that did."""
        found = []
        for result in self.results(function, *payloads):
            if result.status is AttemptStatus.RAISED:
                raise decode_exception(result.value, loaded_class, result.detail)
            found.append(values.decode(result.value))
        return found

    def command(self, *argv: str, program: CommandProgram | Record | None = None, **call: object) -> Ended:
        """How one run of a program ended."""
        (value,) = self.run(program or CommandProgram(), CommandCall(argv, **call))
        return Ended.of_value(value)

    def results(self, function: bytes | Record, *payloads: bytes | Record) -> list[WorkResult]:
        """The ends of units, in order, as the worker tells them."""
        function, number = _bytes(function), len(self._functions)
        if function not in self._functions:
            self._functions[function] = number
            self._socket.sendall(WORKER.encode(LoadFunction(number, function)))
        units = [WorkUnit(next(self._serials), self._functions[function], _bytes(each)) for each in payloads]
        self._socket.sendall(WORKER.encode(RunUnits(units)))
        while not all(unit.serial in self._results for unit in units):
            message = self._receive()
            assert isinstance(message, UnitsRun)
            self._results.update({result.serial: result for result in message.results})
        return [self._results.pop(unit.serial) for unit in units]

    def _receive(self) -> object:
        while True:
            for frame in self._reader.frames():
                return WORKER.decode(frame)
            data = self._socket.recv(1 << 16)
            assert data, "the worker ended"
            self._reader.feed(data)

    def hang_up(self) -> int:
        """What a daemon does at the end; return the worker's exit code."""
        self._socket.close()
        return self.process.wait(20)


def _bytes(record: bytes | Record) -> bytes:
    return record if isinstance(record, bytes) else encode_record(record)


@contextmanager
def driven(runtime: str, scratch: Path, before: str = "") -> Iterator[DrivenWorker]:
    worker = DrivenWorker(runtime, scratch, before)
    try:
        yield worker
    finally:
        worker.hang_up()


StartWorker = Callable[..., DrivenWorker]


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers that end with the test."""
    started: list[DrivenWorker] = []

    def start(runtime: str, before: str = "") -> DrivenWorker:
        scratch = tmp_path / f"scratch-{len(started)}"
        scratch.mkdir()
        started.append(DrivenWorker(runtime, scratch, before))
        return started[-1]

    yield start
    for worker in started:
        worker.hang_up()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrivenWorker]:
    """One worker for all tests of a file that leave it as it was."""
    with driven("command", tmp_path_factory.mktemp("scratch")) as worker:
        yield worker


@pytest.fixture(scope="module")
def wasm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrivenWorker]:
    """The same for WebAssembly."""
    with driven("wasm", tmp_path_factory.mktemp("scratch")) as worker:
        yield worker
