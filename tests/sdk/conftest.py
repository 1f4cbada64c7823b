"""A daemon made of threads, that speaks the local channel and runs units in this process."""

import contextlib
import json
import pickle
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from meshd_protocol.calls import CallForm
from meshd_protocol.errors import RemoteProtocolError
from meshd_protocol.framing import FrameReader, Message
from meshd_protocol.ids import ID_BYTES, JobId, MeshId, NodeId, to_text
from meshd_protocol.limits import LOCAL_FRAME_BYTES_MAX
from meshd_protocol.messages.attempts import UnitStatus
from meshd_protocol.messages.local import (
    LOCAL,
    Answer,
    Ask,
    AttachJob,
    CancelJob,
    CancelUnits,
    ClientHello,
    CloseJob,
    DefineFunction,
    Denial,
    DenialCode,
    JobEnded,
    JobOpened,
    OpenJob,
    Outcome,
    Question,
    SubmitUnits,
    UnitsEnded,
    Welcome,
)
from meshd_protocol.values import encode, encode_exception
from meshd_sdk import Mesh

_ABOUT_A_JOB = (DefineFunction, SubmitUnits, CancelUnits, CloseJob)


class FakeJob:
    def __init__(self, number: int, opening: OpenJob) -> None:
        self.id = JobId(number.to_bytes(ID_BYTES, "big"))
        self.opening = opening
        self.functions: dict[int, bytes] = {}
        self.units: list[Future[Outcome]] = []
        self.told: set[int] = set()
        self.closed = False
        self.state = "running"

    def describe(self) -> dict[str, Any]:
        done = sum(unit.done() for unit in self.units)
        return {"id": to_text(self.id), "name": self.opening.name, "state": self.state, "units": len(self.units),
                "done": done, "failed": 0}  # fmt: skip


class FakeConnection:
    """One program. `tell` and `drop` may be called from any thread."""

    def __init__(self, daemon: "FakeDaemon", connected: socket.socket) -> None:
        self.daemon = daemon
        self._socket = connected
        self._lock = threading.Lock()
        self.jobs: dict[int, FakeJob] = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="fake-connection")
        self.thread.start()

    def tell(self, message: Message, stream: int = 0) -> None:
        self.tell_bytes(LOCAL.encode(message, stream))

    def tell_bytes(self, data: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(data)

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        reader = FrameReader(LOCAL_FRAME_BYTES_MAX)
        try:
            while data := self._socket.recv(1 << 18):
                reader.feed(data)
                for frame in reader.frames():
                    message = LOCAL.decode(frame)
                    self.daemon.received.append((message, frame.stream))
                    if (
                        type(message) not in _ABOUT_A_JOB
                        or frame.stream in self.jobs
                        or type(message) in self.daemon.on
                    ):
                        self.daemon.handler(type(message))(self, message, frame.stream)
                    # Else the job was refused while this was on its way.
        except (OSError, RemoteProtocolError) as error:
            self.daemon.errors.append(error)
        finally:
            with self._lock:
                self._socket.close()
            self.ended.set()


class FakeDaemon:
    """`on` replaces what it does with a kind of message; `gate` is waited for before each unit."""

    def __init__(self, path: Path, workers: int = 5) -> None:
        self.path = path
        self.received: list[tuple[Message, int]] = []
        self.errors: list[Exception] = []
        self.on: dict[type[Message], Callable[[FakeConnection, Any, int], None]] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.connections: list[FakeConnection] = []
        self.accepted = threading.Event()
        self.jobs: list[FakeJob] = []
        self._workers = ThreadPoolExecutor(workers, "fake-worker")
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, name="fake-daemon")
        self._thread.start()

    def stop(self) -> None:
        self.gate.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connection in self.connections:
            connection.drop()
            connection.thread.join()
        self._workers.shutdown(cancel_futures=True)
        self.path.unlink(missing_ok=True)

    def first(self) -> FakeConnection:
        assert self.accepted.wait(10)
        return self.connections[0]

    def read_all(self) -> None:
        """Wait until every program hung up: all that they sent is in `received`."""
        assert self.accepted.wait(10)
        assert all(connection.ended.wait(10) for connection in self.connections)

    def of_kind(self, kind: type[Message]) -> list[Any]:
        return [message for message, _ in self.received if isinstance(message, kind)]

    def handler(self, kind: type[Message]) -> Callable[[FakeConnection, Any, int], None]:
        return self.on.get(kind) or getattr(self, f"_on_{kind.__name__}")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._listener.accept()
                self.connections.append(FakeConnection(self, connected))
                self.accepted.set()

    def _on_ClientHello(self, to: FakeConnection, hello: ClientHello, stream: int) -> None:
        to.tell(Welcome(1, NodeId(b"n" * ID_BYTES), MeshId(b"m" * ID_BYTES), "fake", "0"))

    def _on_OpenJob(self, to: FakeConnection, opening: OpenJob, stream: int) -> None:
        job = to.jobs[stream] = FakeJob(len(self.jobs) + 1, opening)
        self.jobs.append(job)
        to.tell(JobOpened(job.id), stream)

    def _on_DefineFunction(self, to: FakeConnection, function: DefineFunction, stream: int) -> None:
        to.jobs[stream].functions[function.number] = function.data

    def _on_SubmitUnits(self, to: FakeConnection, message: SubmitUnits, stream: int) -> None:
        job = to.jobs[stream]
        for unit in message.units:
            index, function = len(job.units), job.functions[unit.function]
            running = self._workers.submit(self._execute, index, function, unit.payload)
            job.units.append(running)
            running.add_done_callback(lambda done, index=index: self._ended(to, stream, job, index, done))

    def _execute(self, index: int, function: bytes, payload: bytes) -> Outcome:
        self.gate.wait()
        try:
            call, arguments = cloudpickle.loads(function), pickle.loads(payload[1:])
            if payload[0] == CallForm.CALL:
                value = encode(call(*arguments[0], **arguments[1]))
            else:
                value = encode([call(*each) for each in arguments])
        except BaseException as error:
            return Outcome(index, UnitStatus.RAISED, encode_exception(error), traceback.format_exc())
        return Outcome(index, UnitStatus.RETURNED, value)

    def _ended(self, to: FakeConnection, stream: int, job: FakeJob, index: int, done: Future[Outcome]) -> None:
        outcome = Outcome(index, UnitStatus.CANCELLED, b"") if done.cancelled() else done.result()
        with self._lock:
            job.told.add(index)
            to.tell(UnitsEnded([outcome]), stream)
            self._end_if_done(to, stream, job)

    def _end_if_done(self, to: FakeConnection, stream: int, job: FakeJob) -> None:
        if job.closed and len(job.told) == len(job.units) and job.state == "running":
            job.state = "done"
            to.tell(JobEnded("done", ""), stream)

    def _on_CancelUnits(self, to: FakeConnection, message: CancelUnits, stream: int) -> None:
        for index in message.indices:
            to.jobs[stream].units[index].cancel()

    def _on_CloseJob(self, to: FakeConnection, message: CloseJob, stream: int) -> None:
        with self._lock:
            to.jobs[stream].closed = True
            self._end_if_done(to, stream, to.jobs[stream])

    def _on_AttachJob(self, to: FakeConnection, message: AttachJob, stream: int) -> None:
        job = self._find(message.job)
        if job is None:
            to.tell(Denial(DenialCode.NO_SUCH_JOB, "this node has no such job"), stream)
            return
        to.tell(JobOpened(job.id), stream)
        for unit in job.units:
            to.tell(UnitsEnded([unit.result()]), stream)
        to.tell(JobEnded("done", ""), stream)

    def _on_CancelJob(self, to: FakeConnection, message: CancelJob, stream: int) -> None:
        job = self._find(message.job)
        assert job is not None
        for unit in job.units:
            unit.cancel()
        to.tell(Answer(b"{}"), stream)

    def _on_Ask(self, to: FakeConnection, ask: Ask, stream: int) -> None:
        job = self._find(JobId(ask.job))
        match ask.question:
            case Question.STATUS:
                found: Any = {"state": "ready"}
            case Question.PEERS:
                found = [{"name": "fake"}]
            case Question.JOBS:
                found = [each.describe() for each in self.jobs]
            case _ if job is None:
                to.tell(Denial(DenialCode.NO_SUCH_JOB, "this node has no such job"), stream)
                return
            case _:
                found = {**job.describe(), "why": f"unit {ask.index}"}
        to.tell(Answer(json.dumps(found).encode()), stream)

    def _find(self, identifier: JobId) -> FakeJob | None:
        return next((job for job in self.jobs if job.id == identifier), None)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    running = FakeDaemon(tmp_path / "meshd.sock")
    yield running
    running.stop()


@pytest.fixture
def mesh(daemon: FakeDaemon) -> Iterator[Mesh]:
    connected = Mesh(daemon.path)
    yield connected
    daemon.gate.set()
    connected.shutdown()


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[Callable[[], FakeDaemon]]:
    """Start one more daemon at the same path, after the last was stopped."""
    started: list[FakeDaemon] = []

    def start() -> FakeDaemon:
        started.append(FakeDaemon(tmp_path / "again.sock"))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def mesh_socket(daemon: FakeDaemon) -> Path:
    """The socket that CPython's own executor tests use: replace it to run them against a real mesh."""
    return daemon.path
