"""The worker: runs one submitter's units, one after the other, in a process that the zygote forked.

It is the one place where somebody's pickles are loaded. Whatever runs here may lie to the daemon about its own units;
the pool believes nothing else.
"""

import io
import os
import pickle
import random
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from mmap import mmap
from typing import Any, Final, TypeAlias

import cloudpickle

from meshd_node.exec.control import PROGRESS_BYTES
from meshd_protocol import values
from meshd_protocol.calls import CallForm
from meshd_protocol.errors import ValueRefused
from meshd_protocol.framing import FrameReader
from meshd_protocol.limits import BATCH_BYTES, BATCH_UNITS_MAX, TRACEBACK_CHARS_MAX, UNIT_BYTES_MAX
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WORKER, Forget, LoadFunction, Ready, RunUnits, UnitsRun, WorkResult, WorkUnit
from meshd_protocol.programs import ProgramFailed

# A function that is loaded: from a unit's payload to its value.
Run: TypeAlias = Callable[[bytes], object]
# What tells one runtime from another: how bytes that were shipped as a function become one.
Load: TypeAlias = Callable[[bytes], Run]

_READ_BYTES: Final = 256 * 1024
# Results leave when so much time has passed since the last ones did. Below it, they leave with the next.
_FLUSH_S: Final = 0.001
# The second thread looks this often while units run. A unit that runs for longer holds nobody else up: what waits
# behind it in this worker is handed back.
_LOOK_S: Final = 0.005
_LONG_S: Final = 0.008
# After so many looks at a worker without work the second thread sleeps until the next batch.
_IDLE_LOOKS: Final = 10

_CALL: Final = int(CallForm.CALL)
_MAP: Final = int(CallForm.MAP)


class Worker:
    """Receives batches, runs them in order, sends results. The second thread exists once a batch had two units."""

    def __init__(self, sock: socket.socket, progress: "memoryview[int]", load: Load) -> None:
        self._sock = sock
        self._load_data = load
        # The serial of the unit that runs, where the daemon reads it after a sudden death: 0 is none.
        self._progress = progress
        self._pid = os.getpid()
        self._reader = FrameReader(WORKER.frame_bytes_max)
        # Used again and again: to make bytes of this size for each read would cost 20 µs.
        self._received = memoryview(bytearray(_READ_BYTES))
        self._receiving = threading.Lock()
        self._sending = threading.Lock()
        self._waiting: deque[WorkUnit] = deque()
        self._results: deque[WorkResult] = deque()
        self._pickles: dict[int, bytes] = {}
        self._functions: dict[int, Run] = {}
        self._began = 0.0  # of the unit that runs; 0.0 if none does
        self._sent_at = 0.0
        self._second: threading.Thread | None = None
        self._work_came = threading.Event()

    def run(self) -> None:
        """Serve until the daemon hangs up."""
        self._send_frame(WORKER.encode(Ready(self._pid, os.getuid())))
        while self._receive(0):
            self._began = self._sent_at = time.perf_counter()
            if len(self._waiting) > 1:
                self._watch()
            self._run_waiting()

    # --- units ------------------------------------------------------------------------------------------------

    def _run_waiting(self) -> None:
        waiting, results, progress = self._waiting, self._results, self._progress
        while True:
            try:
                unit = waiting.popleft()
            except IndexError:
                break
            began = self._began = time.perf_counter()
            progress[0] = unit.serial
            status, value, detail = self._outcome(unit)
            ended = time.perf_counter()
            if os.getpid() != self._pid:
                os._exit(0)  # the unit forked, and this is its child, which has no business here
            results.append(WorkResult(unit.serial, status, value, int((ended - began) * 1e6), detail))
            if ended - self._sent_at > _FLUSH_S:
                self._flush()
        self._began = 0.0
        self._flush()
        progress[0] = 0

    def _outcome(self, unit: WorkUnit) -> tuple[AttemptStatus, bytes, str]:
        try:
            run = self._functions.get(unit.function) or self._load(unit.function)
            value = values.encode(run(unit.payload))
            if len(value) > UNIT_BYTES_MAX:
                raise ValueRefused(f"a result of {len(value)} bytes, {UNIT_BYTES_MAX} may travel: write it to a file")
        except BaseException as error:  # SystemExit and KeyboardInterrupt, too, end the unit alone
            return AttemptStatus.RAISED, _encoded(error), _text(error)
        return AttemptStatus.RETURNED, value, ""

    def _load(self, number: int) -> Run:
        run = self._functions[number] = self._load_data(self._pickles[number])
        return run

    # --- the socket -------------------------------------------------------------------------------------------

    def _receive(self, flags: int) -> bool:
        """Take in what has arrived; wait for something unless `flags` forbid it. False at the end."""
        with self._receiving:
            if self._waiting and not flags:
                return True  # the second thread received it when there was nothing left to run: nobody else would tell
            try:
                count = self._sock.recv_into(self._received, flags=flags)
            except BlockingIOError:
                return True
            except ConnectionError:
                return False
            self._reader.feed(self._received[:count])
            for frame in self._reader.frames():
                match WORKER.decode(frame):
                    case RunUnits(units):
                        self._waiting.extend(units)
                    case LoadFunction(number, pickled):
                        self._pickles[number] = pickled
                        self._functions.pop(number, None)
                    case Forget(numbers):
                        for number in numbers:
                            self._pickles.pop(number, None)
                            self._functions.pop(number, None)
            return count > 0

    def _flush(self) -> None:
        """Send all results that are there."""
        with self._sending:
            self._sent_at = time.perf_counter()
            while self._results:
                batch: list[WorkResult] = []
                size = 0
                while self._results and len(batch) < BATCH_UNITS_MAX and size < BATCH_BYTES:
                    batch.append(self._results.popleft())
                    # A character of a traceback has up to four bytes.
                    size += len(batch[-1].value) + 4 * len(batch[-1].detail)
                self._sock.sendall(WORKER.encode(UnitsRun(batch)))

    def _send_frame(self, frame: bytes) -> None:
        with self._sending:
            self._sock.sendall(frame)

    # --- the second thread ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._second is None:
            self._second = threading.Thread(target=self._look, name="meshd-watch", daemon=True)
            self._second.start()
        self._work_came.set()

    def _look(self) -> None:
        """While a unit runs for long: send what was finished before it, hand back what waits behind it."""
        idle = 0
        while True:
            time.sleep(_LOOK_S)
            began = self._began
            idle = 0 if began else idle + 1
            if idle >= _IDLE_LOOKS:
                idle = 0
                self._work_came.clear()
                if not self._began:  # the first thread says that it began, and then that work came
                    self._work_came.wait()
                continue
            if began and time.perf_counter() - began > _LONG_S:
                self._hand_back(began)
                self._flush()

    def _hand_back(self, began: float) -> None:
        # The first thread receives only between units: if it does now, the long unit has just ended.
        if self._receiving.acquire(blocking=False):
            self._receiving.release()
            if self._began == began:
                self._receive(socket.MSG_DONTWAIT)
        if self._began != began:
            return
        back: deque[WorkResult] = deque()
        while self._waiting:
            try:
                unit = self._waiting.pop()
            except IndexError:  # the first thread took the last one
                break
            back.appendleft(WorkResult(unit.serial, AttemptStatus.HANDED_BACK, b""))
        self._results.extend(back)


def main(sock: int, progress: int, kind: type[Worker] = Worker) -> None:
    """Run pickled functions."""
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    serve(sock, progress, load_pickled, kind)


def serve(sock: int, progress: int, load: Load, kind: type[Worker] = Worker) -> None:
    """Serve one runtime on an inherited socket; `progress` is a descriptor of 8 bytes that the daemon reads, too."""
    connection = socket.socket(fileno=sock)
    with mmap(progress, PROGRESS_BYTES) as shared, memoryview(shared).cast("Q") as serial:
        os.close(progress)
        kind(connection, serial, load).run()


def preload() -> None:
    """Have loaded, before any fork, what every worker needs: importing this module has done it."""
    cloudpickle.dumps(io.BytesIO)


def load_pickled(data: bytes) -> Run:
    """Python's runtime: a function is a pickle, and so are its arguments."""
    function: Callable[..., Any] = _unpickled(data, "function")

    def run(payload: bytes) -> object:
        arguments = _unpickled(memoryview(payload)[1:], "arguments")
        form = payload[0]
        if form == _CALL:
            positional, named = arguments
            return function(*positional, **named)
        if form == _MAP:
            return [function(*positional) for positional in arguments]
        raise ValueRefused(f"a payload of form {form}, which this release does not know: update this node")

    return run


def _unpickled(data: bytes | memoryview, what: str) -> Any:
    try:
        return pickle.loads(data)  # noqa: S301  # what workers are for
    except Exception as error:
        raise RuntimeError(
            f"this node can not load the {what} ({type(error).__name__}: {error}): define what is needed in the "
            "program itself, install it on all nodes, or ship it by cloudpickle.register_pickle_by_value(module)"
        ) from error


def _encoded(error: BaseException) -> bytes:
    """An exception as it travels; one that can not even be looked at is named by its type alone."""
    try:
        return values.encode_exception(error)
    except BaseException:  # its own code may do anything
        return values.encode_exception(RuntimeError(f"a {type(error).__name__} that can not be encoded"))


def _text(error: BaseException) -> str:
    """The traceback from the submitter's own code on, its end if it is too long: there is the error itself."""
    if isinstance(error, ProgramFailed):
        return ""  # its text says what its program did: our frames would say nothing more
    ours = error.__traceback__
    theirs = ours.tb_next.tb_next if ours is not None and ours.tb_next is not None else None
    try:
        text = "".join(traceback.format_exception(type(error), error, theirs))
    except BaseException:  # an exception whose __str__ raises
        text = type(error).__name__
    return text[-TRACEBACK_CHARS_MAX:].encode("utf-8", "replace").decode()
