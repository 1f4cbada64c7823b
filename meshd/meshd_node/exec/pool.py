"""The pool: the daemon's side of its workers. Everything that a worker sends is a submitter's word, and is checked."""

import fcntl
import mmap
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import trio

from meshd_node.core.submitter import Submitter
from meshd_node.exec import control
from meshd_node.exec.control import PROGRESS_BYTES, Verb, Word
from meshd_node.exec.isolation import choose
from meshd_node.frame_socket import Batch, FrameSocket
from meshd_node.log import log
from meshd_protocol.errors import RemoteProtocolError, UnexpectedMessage
from meshd_protocol.ids import Digest, JobId
from meshd_protocol.limits import BATCH_UNITS_MAX
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WORKER, Forget, LoadFunction, Ready, RunUnits, UnitsRun, WorkResult, WorkUnit

# Functions that one worker has: more than the units that can wait in it, so that none of theirs is forgotten.
_FUNCTIONS_KEPT: Final = 4 * BATCH_UNITS_MAX
_PROGRESS: Final = struct.Struct("Q")
# A zygote that dies is replaced, later each time it dies soon.
_RESTART_MIN_S: Final = 0.1
_RESTART_MAX_S: Final = 30.0
_STABLE_S: Final = 60.0
_END_S: Final = 2.0
# A worker's socket ends some ms before the zygote tells of its death.
_DEATH_KNOWN_S: Final = 0.5
# The zygote's socket holds some hundred words; when it is full, it empties in ms.
_FULL_S: Final = 0.01
# What a worker may say of a unit; the other ends are seen from outside.
_WORKERS_ENDS: Final = frozenset({AttemptStatus.RETURNED, AttemptStatus.RAISED, AttemptStatus.HANDED_BACK})
# Nothing of the daemon's environment reaches a worker. One thread for BLAS: a slot is one CPU.
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class Crew(Protocol):
    """Who is told what workers do."""

    def worker_ready(self, worker: int) -> None:
        """A worker can take units."""
        ...

    def worker_ran(self, worker: int, results: list[WorkResult]) -> None:
        """A worker finished units, or gives some back."""
        ...

    def worker_ended(self, worker: int, running: int | None, reason: str) -> None:
        """A worker is gone; `running` is the serial that it was in."""
        ...


@dataclass(slots=True)
class _Worker:
    """One worker: its wire, its progress, what it was given and has not answered."""

    wire: FrameSocket
    progress: mmap.mmap
    reading: trio.CancelScope = field(default_factory=trio.CancelScope)
    given: dict[int, None] = field(default_factory=dict)
    functions: OrderedDict[tuple[JobId, Digest], int] = field(default_factory=OrderedDict)
    loaded: int = 0
    ready: bool = False
    fault: str = ""

    def running(self) -> int | None:
        """The serial of the unit that it is in, if it was given that unit and has not answered it."""
        (serial,) = _PROGRESS.unpack(self.progress[:PROGRESS_BYTES])
        return serial if serial in self.given else None


class WorkerPool:
    """Starts workers through the zygote, feeds them, and ends them."""

    def __init__(self, crew: Crew, function_data: Callable[[Digest], bytes], *, worker_module: str) -> None:
        self._crew = crew
        self._function_data = function_data
        self._worker_module = worker_module
        self._isolation = choose()
        self._workers: dict[int, _Worker] = {}
        self._zygote: socket.socket | None = None
        self._there = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._scratch = Path()

    @property
    def isolation(self) -> str:
        """What keeps work apart from this daemon, in words for its operator."""
        return self._isolation.text

    # --- effects of the executor's machine --------------------------------------------------------------------

    def start(self, number: int, submitter: Submitter) -> None:
        """Have a worker made; `worker_ready` or `worker_ended` follows, never from inside this call."""
        assert self._nursery is not None, "workers are started while the pool runs"
        log.debug("worker_starts", worker=number, uid=submitter.uid)
        try:
            self._make(number, self._nursery)
        except OSError as error:  # out of descriptors
            self._nursery.start_soon(self._not_made, number, str(error))

    def _make(self, number: int, nursery: trio.Nursery) -> None:
        with ExitStack() as stack:
            descriptor = _progress_memory()
            stack.callback(os.close, descriptor)
            progress = mmap.mmap(descriptor, PROGRESS_BYTES)
            ours, theirs = socket.socketpair()
            stack.callback(theirs.close)
            worker = self._workers[number] = _Worker(FrameSocket(ours, WORKER), progress)
            nursery.start_soon(self._serve, number, worker)
            self._ask(Word(Verb.FORK, number), (theirs.fileno(), descriptor))

    def run_units(
        self, number: int, job: JobId, serials: list[int], functions: list[Digest], payloads: list[bytes]
    ) -> None:
        """Give a worker units of one job, and send at once what the socket takes."""
        worker = self._workers.get(number)
        if worker is None:
            return  # it ended in this very moment, which is being told
        numbers = {digest: self._number(worker, job, digest) for digest in set(functions)}
        worker.given.update(dict.fromkeys(serials))
        worker.wire.send(
            RunUnits(
                [
                    WorkUnit(serial, numbers[function], payload)
                    for serial, function, payload in zip(serials, functions, payloads, strict=True)
                ]
            )
        )
        worker.wire.flush()

    def end(self, number: int, reason: str) -> None:
        """Kill a worker; nothing more is told of it."""
        worker = self._workers.pop(number, None)
        if worker is not None:
            log.debug("worker_ended_here", worker=number, reason=reason)
            worker.reading.cancel()
            self._ask(Word(Verb.KILL, number))

    # --- life -------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a zygote until cancelled; then end every worker and remove what they wrote."""
        with tempfile.TemporaryDirectory(prefix="meshd-work-", ignore_cleanup_errors=True) as scratch:
            # Workers of another user pass through it to their own folders, and see none but theirs.
            self._scratch = Path(scratch)
            self._scratch.chmod(0o711)
            async with trio.open_nursery() as self._nursery:
                await self._keep_zygote(task_status)

    async def _keep_zygote(self, task_status: trio.TaskStatus[None]) -> None:
        delay = _RESTART_MIN_S
        while True:
            began = trio.current_time()
            ended = await self._run_zygote(task_status)
            task_status = trio.TASK_STATUS_IGNORED
            log.error("zygote_ended", code=ended, again_in_s=delay)
            self._lose_all()
            delay = _RESTART_MIN_S if trio.current_time() - began > _STABLE_S else min(2 * delay, _RESTART_MAX_S)
            await trio.sleep(delay)

    async def _run_zygote(self, task_status: trio.TaskStatus[None]) -> int | None:
        ours, process = self._spawn()
        self._zygote = ours
        self._there.set()
        try:
            task_status.started()
            await self._hear(ours)
        finally:
            self._zygote = None
            self._there = trio.Event()
            ours.close()
            _end(process)
        return process.returncode

    def _spawn(self) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
        """Start a zygote. In the main thread: it dies with the thread that started it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own_users = "1" if self._isolation.own_users else "0"
        arguments = (str(os.getpid()), str(theirs.fileno()), own_users, str(self._scratch), self._worker_module)
        with theirs:
            process = subprocess.Popen(  # noqa: S603  # this interpreter, and a module of ours
                [sys.executable, "-P", "-m", "meshd_node.exec.zygote", *arguments],
                env=_ENVIRONMENT,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                cwd="/",
            )
        ours.setblocking(False)
        return ours, process

    async def _hear(self, zygote: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(zygote)
            try:
                received = control.receive(zygote)
            except BlockingIOError:
                continue
            except OSError:
                return
            if received is None:
                return
            word, _ = received
            self._ended(word.number, control.describe(word.value))

    # --- one worker -------------------------------------------------------------------------------------------

    async def _serve(self, number: int, worker: _Worker) -> None:
        try:
            with worker.reading:
                await worker.wire.run(lambda batch: self._received(number, worker, batch))
                # Of one that died the zygote tells at once; one that lives on has hung up on us.
                await trio.sleep(_DEATH_KNOWN_S)
                self._break_with(number, worker, "it closed the socket")
        except RemoteProtocolError as error:
            self._break_with(number, worker, str(error))
        finally:
            worker.wire.close()

    def _break_with(self, number: int, worker: _Worker, fault: str) -> None:
        worker.fault = f"the unit's code broke into the worker's own socket: {fault}"
        log.warning("worker_lied", worker=number, reason=fault)
        self._ask(Word(Verb.KILL, number))

    def _received(self, number: int, worker: _Worker, batch: Batch) -> None:
        results: list[WorkResult] = []
        for message, _ in batch:
            match message:
                case UnitsRun(some):
                    results += some
                case Ready() if not worker.ready:
                    worker.ready = True
                    self._crew.worker_ready(number)
                case _:
                    raise UnexpectedMessage(f"a worker does not send {type(message).__name__}")
        for result in results:
            if worker.given.pop(result.serial, worker) is worker:
                raise UnexpectedMessage(f"an answer for serial {result.serial}, which it was not given")
            if result.status not in _WORKERS_ENDS:
                raise UnexpectedMessage(f"a worker does not say {result.status.name}")
        if results and number in self._workers:
            self._crew.worker_ran(number, results)

    def _ended(self, number: int, reason: str) -> None:
        """The zygote says that a worker is gone. What it still sent is in its socket, and counts."""
        worker = self._workers.get(number)
        if worker is not None:
            self._take_the_rest(number, worker)
        if self._workers.pop(number, None) is not None and worker is not None:
            worker.reading.cancel()
            self._crew.worker_ended(number, worker.running(), worker.fault or reason)
        self._clear(self._scratch / str(number))

    def _clear(self, home: Path) -> None:
        """Remove a worker's folder; what its units left in there may be much, and takes a thread."""
        try:
            home.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            assert self._nursery is not None, "workers end while the pool runs"
            self._nursery.start_soon(partial(trio.to_thread.run_sync, shutil.rmtree, home, True))

    def _take_the_rest(self, number: int, worker: _Worker) -> None:
        try:
            worker.wire.read_now(lambda batch: self._received(number, worker, batch))
        except RemoteProtocolError as error:
            worker.fault = worker.fault or str(error)

    def _lose_all(self) -> None:
        for number in list(self._workers):
            self._ended(number, "the process that makes workers died")

    def _number(self, worker: _Worker, job: JobId, digest: Digest) -> int:
        """The worker's number for a function, which is sent to it if need be."""
        known = worker.functions
        number = known.pop((job, digest), None)
        if number is None:
            worker.loaded += 1
            number = worker.loaded
            worker.wire.send(LoadFunction(number, self._function_data(digest)))
            if len(known) >= _FUNCTIONS_KEPT:
                worker.wire.send(Forget([known.popitem(last=False)[1]]))
        known[job, digest] = number
        return number

    def _ask(self, word: Word, descriptors: tuple[int, ...] = ()) -> None:
        """Ask the zygote. A fork that can not be asked for has failed; a kill is owed until its socket takes it."""
        assert self._nursery is not None, "workers live while the pool runs"
        try:
            if self._zygote is None:
                raise ConnectionError("the process that makes workers is being restarted")
            control.send(self._zygote, word, descriptors)
        except OSError as error:
            if word.verb is Verb.FORK:
                self._nursery.start_soon(self._lose, word.number, str(error))
            elif isinstance(error, BlockingIOError):
                self._nursery.start_soon(self._ask_again, word)

    async def _ask_again(self, word: Word) -> None:
        await trio.sleep(_FULL_S)
        self._ask(word)

    async def _lose(self, number: int, reason: str) -> None:
        """Tell that a worker could not be asked for, once it makes sense to ask for another."""
        await trio.lowlevel.checkpoint()
        await self._there.wait()
        if number in self._workers:
            self._ended(number, reason)

    async def _not_made(self, number: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self._crew.worker_ended(number, None, reason)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The zygote ends when its socket does, and its workers with it; what hangs is killed."""
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _progress_memory() -> int:
    """Shared memory of sealed size: the worker holds it, too, and reading what it has cut off would kill the daemon."""
    descriptor = os.memfd_create("meshd-progress", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, PROGRESS_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor
