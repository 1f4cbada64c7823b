"""A real warden and its workers, driven without a daemon, so that a figure is theirs alone."""

import os
import pickle
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import cloudpickle

from meshd_node.exec.control import NEWS, PROGRESS_BYTES, Bounds, Ended, Keep, Kill, Proved, Start, Wire
from meshd_protocol.calls import CallForm
from meshd_protocol.framing import FrameReader
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WORKER, LoadFunction, RunUnits, UnitsRun, WorkResult, WorkUnit
from meshd_protocol.records import Runtime

_PATIENCE_S: Final = 10.0


class Worker:
    """One worker, ready for units."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._reader = FrameReader(WORKER.frame_bytes_max)
        self._serial = 0
        self._functions = 0

    def load(self, function: Callable[..., Any]) -> int:
        """Have it know a function; return its number."""
        self._functions += 1
        self.sock.sendall(WORKER.encode(LoadFunction(self._functions, cloudpickle.dumps(function))))
        return self._functions

    def give(self, function: int, count: int = 1, *arguments: Any) -> None:
        """Give it so many units of one function."""
        payload = bytes([CallForm.CALL]) + pickle.dumps((arguments, {}))
        first, self._serial = self._serial + 1, self._serial + count
        units = [WorkUnit(serial, function, payload) for serial in range(first, first + count)]
        self.sock.sendall(WORKER.encode(RunUnits(units)))

    def run(self, function: int, count: int = 1, *arguments: Any) -> int:
        """Run so many units; return how many ran, for those behind a long one are handed back."""
        self.give(function, count, *arguments)
        results: list[WorkResult] = []
        while len(results) < count:
            results += self._results()
        ran = [result for result in results if result.status is not AttemptStatus.HANDED_BACK]
        failed = next((result for result in ran if result.status is not AttemptStatus.RETURNED), None)
        if failed is not None:
            raise RuntimeError(f"a unit did not return: {failed.status.name} {failed.detail}")
        return len(ran)

    def _results(self) -> list[WorkResult]:
        while True:
            for frame in self._reader.frames():
                message = WORKER.decode(frame)
                if isinstance(message, UnitsRun):
                    return list(message.results)
            received = self.sock.recv(1 << 16)
            if not received:
                raise RuntimeError("the worker has ended")
            self._reader.feed(received)


class Warden:
    """A warden with cages of one maker: the best that it proves, or the one that is named."""

    def __init__(self, folder: Path, maker: str = "") -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            arguments = (str(theirs.fileno()), str(folder), "meshd_node.exec.worker", maker)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "meshd_node.exec.warden", *arguments],
                pass_fds=[theirs.fileno()],
                env={"PATH": os.defpath},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._wire = Wire(ours, NEWS)
        self._number = 0
        self.ended: dict[int, str] = {}
        self.proved: Proved | None = None
        self._wire.send(Keep(1))
        while self.proved is None:
            self._hear()

    @property
    def text(self) -> str:
        """What its cages are, in words."""
        assert self.proved is not None, "it has proved them when it is there"
        return f"{self.proved.maker} ({self.proved.level.name.lower()})"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def start(self, tenant: bytes, *, memory_bytes: int = 0, own_process: bool = False) -> tuple[int, Worker]:
        """Have a worker made; what it is sent waits until it is there."""
        self._number += 1
        ours, theirs = socket.socketpair()
        ours.settimeout(_PATIENCE_S)
        memory = os.memfd_create("progress")
        os.ftruncate(memory, PROGRESS_BYTES)
        bounds = Bounds(memory_bytes=memory_bytes)
        start = Start(self._number, tenant, Runtime.PYTHON, "", bounds, [], own_process)
        self._wire.send(start, [theirs.fileno(), memory])
        theirs.close()
        os.close(memory)
        return self._number, Worker(ours)

    def kill(self, number: int) -> None:
        """Have a worker ended."""
        self._wire.send(Kill(number))

    def end_of(self, number: int) -> str:
        """Why a worker ended, as the warden tells it."""
        while number not in self.ended:
            self._hear()
        return self.ended[number]

    def close(self) -> None:
        """Hang up, and wait for its end."""
        self._wire.close()
        self._process.wait(_PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hear(self) -> None:
        readable, _, _ = select.select([self._wire], [], [], _PATIENCE_S)
        received = self._wire.receive() if readable else None
        if received is None:
            raise RuntimeError("the warden said nothing: `meshd doctor` tells what is missing")
        match received.word:
            case Proved() as proved:
                self.proved = proved
            case Ended(number, _, reason):
                self.ended[number] = reason


def wait_until_gone(pids: set[int]) -> float:
    """Wait for the end of processes that need not be ours; return when the last one had ended."""
    poll = select.poll()
    held = []
    for pid in pids:
        try:
            held.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
        poll.register(held[-1], select.POLLIN)
    left = len(held)
    while left and (ended := poll.poll(_PATIENCE_S * 1e3)):
        for descriptor, _ in ended:
            poll.unregister(descriptor)
        left -= len(ended)
    gone = time.monotonic()
    for descriptor in held:
        os.close(descriptor)
    if left:
        raise RuntimeError(f"{left} processes were still there after {_PATIENCE_S:g} s")
    return gone
