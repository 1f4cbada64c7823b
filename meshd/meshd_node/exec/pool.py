"""The pool: the daemon's side of its workers. Everything that a worker sends is a submitter's word, and is checked."""

import fcntl
import math
import mmap
import os
import socket
import struct
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Container
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, assert_never

import trio

from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Tenant
from meshd_node.exec.control import (
    PROGRESS_BYTES,
    Bounds,
    Ended,
    Keep,
    Kill,
    News,
    Order,
    Proved,
    Start,
    Wire,
    describe,
)
from meshd_node.exec.employing import Employed, WardenOfOurs, WardenOfService
from meshd_node.frame_socket import Batch, FrameSocket
from meshd_node.log import log
from meshd_protocol.errors import RemoteProtocolError, UnexpectedMessage
from meshd_protocol.ids import Digest, JobId
from meshd_protocol.limits import BATCH_UNITS_MAX
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WORKER, Forget, LoadFunction, Ready, RunUnits, UnitsRun, WorkResult, WorkUnit
from meshd_protocol.records import CageLayer, CageLevel

# Where the operator named the maker, nothing is proved.
OFF: Final = "not caged: `off = true` in [cage] of node.toml (or MESHD_CAGE_OFF)"
# Functions that one worker has: more than the units that can wait in it, so that none of theirs is forgotten.
_FUNCTIONS_KEPT: Final = 4 * BATCH_UNITS_MAX
_PROGRESS: Final = struct.Struct("Q")
# A warden that dies is replaced, later each time it dies soon.
_RESTART_MIN_S: Final = 0.1
_RESTART_MAX_S: Final = 30.0
_STABLE_S: Final = 60.0
# A worker's socket ends some ms before its zygote tells of its death.
_DEATH_KNOWN_S: Final = 0.5
# The warden's socket holds some hundred words; when it is full, it empties in ms.
_FULL_S: Final = 0.01
# What a worker may say of a unit; the other ends are seen from outside.
_WORKERS_ENDS: Final = frozenset({AttemptStatus.RETURNED, AttemptStatus.RAISED, AttemptStatus.HANDED_BACK})
# One whose units have processes of their own outlives their crashes, and tells of them.
_FORKING_WORKERS_ENDS: Final = _WORKERS_ENDS | {AttemptStatus.CRASHED}


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
    ends: frozenset[AttemptStatus]
    reading: trio.CancelScope = field(default_factory=trio.CancelScope)
    given: dict[int, None] = field(default_factory=dict)
    functions: OrderedDict[tuple[JobId, Digest], int] = field(default_factory=OrderedDict)
    loaded: int = 0
    ready: bool = False
    fault: str = ""

    def running(self) -> int | None:
        """The serial of the unit that it is in, as far as the worker's own word for that can be believed."""
        (serial,) = _PROGRESS.unpack(self.progress[:PROGRESS_BYTES])
        return serial if serial in self.given else None

    def to_blame(self) -> int | None:
        """The serial of the unit that it died of: what it says, or else the oldest unit that it has not answered.

        A unit that hid itself would be nobody's fault, and be given to one worker after the other for ever.
        """
        return self.running() or next(iter(self.given), None)


class WorkerPool:
    """Has workers started and ended by the warden, and feeds them."""

    def __init__(
        self,
        crew: Crew,
        function_data: Callable[[Digest], bytes],
        *,
        worker_module: str,
        maker: str = "",
        warden: Path | None = None,
        blank: int = 1,
        on_proved: Callable[[], None] = lambda: None,
        site_of: Callable[[bytes], str] = lambda environment: "",
    ) -> None:
        """`blank` cages wait for tenants to come. `on_proved` is called when `level` and `layers` are known.

        `site_of` names the folder that work of an environment imports from; it is there as long as workers use it.

        `maker` names a way to make cages, which is used though nothing is proved of it; empty is the best there is.
        `warden` is where a service makes them in ways, with workers and in places of its own; None starts a child.
        """
        self._crew = crew
        self._function_data = function_data
        self._worker_module = worker_module
        self._maker = maker
        self._service = warden
        self._blank = blank
        self._on_proved = on_proved
        self._site_of = site_of
        self._scratch_bytes = 0
        self._proved: Proved | None = None
        self._workers: dict[int, _Worker] = {}
        self._warden: Wire[News] | None = None
        self._there = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._scratch = Path()

    @property
    def proved(self) -> bool:
        """Whether it is known what keeps work apart."""
        return self._proved is not None

    @property
    def level(self) -> CageLevel:
        """How well work is kept apart from this node, as it found by attacking its own cages."""
        return CageLevel.NONE if self._proved is None else self._proved.level

    @property
    def layers(self) -> tuple[CageLayer, ...]:
        """What it attacked, and whether that held."""
        return () if self._proved is None else tuple(self._proved.layers)

    @property
    def isolation(self) -> str:
        """What keeps work apart from this daemon, in words for its operator."""
        return OFF if self._maker and self.proved else described(self._proved)

    # --- effects of the executor's machine --------------------------------------------------------------------

    def start(self, number: int, tenant: Tenant, gpus: tuple[str, ...], memory_bytes: int) -> None:
        """Have a worker made; `worker_ready` or `worker_ended` follows, never from inside this call.

        It sees the GPUs of these UUIDs, and is held to `memory_bytes`; 0 is no bound.
        """
        assert self._nursery is not None, "workers are started while the pool runs"
        log.debug("worker_starts", worker=number, uid=tenant.submitter.uid)
        try:
            site = self._site_of(tenant.harness.environment)
            self._make(_start(number, tenant, site, gpus, memory_bytes, self._scratch_bytes), self._nursery)
        except OSError as error:  # out of descriptors
            self._nursery.start_soon(self._not_made, number, str(error))

    def _make(self, start: Start, nursery: trio.Nursery) -> None:
        with ExitStack() as stack:
            descriptor = _progress_memory()
            stack.callback(os.close, descriptor)
            progress = mmap.mmap(descriptor, PROGRESS_BYTES)
            ours, theirs = socket.socketpair()
            stack.callback(theirs.close)
            ends = _FORKING_WORKERS_ENDS if start.own_process else _WORKERS_ENDS
            worker = self._workers[start.number] = _Worker(FrameSocket(ours, WORKER), progress, ends)
            nursery.start_soon(self._serve, start.number, worker)
            self._ask(start, (theirs.fileno(), descriptor))

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

    def limit_scratch(self, scratch_bytes: int) -> None:
        """Let cages from now on have no more scratch space than that; 0 is what they have by themselves."""
        self._scratch_bytes = scratch_bytes

    def end(self, number: int, reason: str) -> None:
        """Kill a worker; nothing more is told of it."""
        worker = self._workers.pop(number, None)
        if worker is not None:
            log.debug("worker_ended_here", worker=number, reason=reason)
            worker.reading.cancel()
            self._ask(Kill(number))

    def keep(self, blank: int) -> None:
        """Have so many blank cages wait from now on: none where nothing is lent."""
        if blank != self._blank:
            self._blank = blank
            if self._warden is not None:
                self._ask(Keep(blank))

    # --- life -------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a warden until cancelled; then end every worker and remove what they wrote."""
        with tempfile.TemporaryDirectory(prefix="meshd-work-", ignore_cleanup_errors=True) as scratch:
            self._scratch = Path(scratch)
            async with trio.open_nursery() as self._nursery:
                await self._keep_warden(task_status)

    async def _keep_warden(self, task_status: trio.TaskStatus[None]) -> None:
        delay = _RESTART_MIN_S
        while True:
            began = trio.current_time()
            ended = await self._run_warden(task_status)
            task_status = trio.TASK_STATUS_IGNORED
            log.error("warden_ended", code=ended, again_in_s=delay)
            self._lose_all()
            delay = _RESTART_MIN_S if trio.current_time() - began > _STABLE_S else min(2 * delay, _RESTART_MAX_S)
            await trio.sleep(delay)

    async def _run_warden(self, task_status: trio.TaskStatus[None]) -> int | None:
        warden = self._employ()
        self._warden = warden.wire
        self._there.set()
        try:
            self._ask(Keep(self._blank))
            task_status.started()
            await self._hear(warden.wire)
        finally:
            self._warden = None
            self._there = trio.Event()
            ended = warden.dismiss()
        return ended

    def _employ(self) -> Employed:
        """Have a warden: the service's, or a child."""
        if self._service is not None:
            return WardenOfService(self._service)
        return WardenOfOurs((str(self._scratch), self._worker_module, self._maker))

    async def _hear(self, warden: Wire[News]) -> None:
        while True:
            await trio.lowlevel.wait_readable(warden)
            try:
                received = warden.receive()
            except BlockingIOError:
                continue
            except OSError:
                return
            if received is None:
                return
            match received.word:
                case Ended(number, status, reason):
                    self._ended(number, reason or describe(status))
                case Proved() as proved:
                    self._learn(proved)
                case _:
                    assert_never(received.word)

    def _learn(self, proved: Proved) -> None:
        if self._maker:
            log.info("cage_off", maker=proved.maker, hint="nothing was proved: that is [cage] off = true")
        else:
            missing = [layer.name for layer in proved.layers if not layer.active]
            log.info("cage_proved", level=proved.level.name.lower(), maker=proved.maker, missing=", ".join(missing))
        self._proved = proved
        self._on_proved()

    # --- one worker -------------------------------------------------------------------------------------------

    async def _serve(self, number: int, worker: _Worker) -> None:
        try:
            with worker.reading:
                await worker.wire.run(lambda batch: self._received(number, worker, batch))
                # Of one that died the warden tells at once, of one that was never made some day; one that lives on has
                # hung up on us.
                await trio.sleep(_DEATH_KNOWN_S if worker.ready else math.inf)
                self._break_with(number, worker, "it closed the socket")
        except RemoteProtocolError as error:
            self._break_with(number, worker, str(error))
        finally:
            worker.wire.close()

    def _break_with(self, number: int, worker: _Worker, fault: str) -> None:
        worker.fault = f"the unit's code broke into the worker's own socket: {fault}"
        log.warning("worker_lied", worker=number, reason=fault)
        self._ask(Kill(number))

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
        _check(results, worker.given, worker.ends)
        for result in results:
            del worker.given[result.serial]
        if results and number in self._workers:
            self._crew.worker_ran(number, results)

    def _ended(self, number: int, reason: str, *, by_itself: bool = True) -> None:
        """The warden says that a worker is gone. What it still sent is in its socket, and counts."""
        worker = self._workers.get(number)
        if worker is not None:
            self._take_the_rest(number, worker)
        if self._workers.pop(number, None) is not None and worker is not None:
            worker.reading.cancel()
            serial = worker.to_blame() if by_itself else worker.running()
            self._crew.worker_ended(number, serial, worker.fault or reason)

    def _take_the_rest(self, number: int, worker: _Worker) -> None:
        try:
            worker.wire.read_now(lambda batch: self._received(number, worker, batch))
        except RemoteProtocolError as error:
            worker.fault = worker.fault or str(error)

    def _lose_all(self) -> None:
        for number in list(self._workers):
            self._ended(number, "the process that makes workers died", by_itself=False)

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

    def _ask(self, order: Order, descriptors: tuple[int, ...] = ()) -> None:
        """Ask the warden. A start that can not be asked for has failed; all else is owed until its socket takes it."""
        assert self._nursery is not None, "workers live while the pool runs"
        try:
            if self._warden is None:
                raise ConnectionError("the process that makes workers is being restarted")
            self._warden.send(order, descriptors, wait=False)
        except OSError as error:
            if isinstance(order, Start):
                self._nursery.start_soon(self._lose, order.number, str(error))
            elif isinstance(error, BlockingIOError):
                self._nursery.start_soon(self._ask_again, order)

    async def _ask_again(self, order: Order) -> None:
        await trio.sleep(_FULL_S)
        self._ask(order)

    async def _lose(self, number: int, reason: str) -> None:
        """Tell that a worker could not be asked for, once it makes sense to ask for another."""
        await trio.lowlevel.checkpoint()
        await self._there.wait()
        if number in self._workers:
            self._ended(number, reason)

    async def _not_made(self, number: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self._crew.worker_ended(number, None, reason)


def _check(results: list[WorkResult], given: Container[int], ends: Container[AttemptStatus]) -> None:
    """Raise for what a worker may not answer, before any of its answers counts."""
    answered = set()
    for result in results:
        if result.serial not in given or result.serial in answered:
            raise UnexpectedMessage(f"an answer for serial {result.serial}, which it was not given")
        if result.status not in ends:
            raise UnexpectedMessage(f"a worker does not say {result.status.name}")
        answered.add(result.serial)


def described(proved: Proved | None) -> str:
    """What keeps work apart, in words for an operator."""
    if proved is None:
        return "not known to be caged yet"
    if proved.level < CageLevel.CONFINED:
        return "not caged: processes with limits"
    return f"caged ({proved.level.name.lower()}, by {proved.maker})"


def _start(
    number: int, tenant: Tenant, site: str, gpus: tuple[str, ...], memory_bytes: int, scratch_bytes: int
) -> Start:
    """What to ask the warden for. Its cages go by submitter, and by what is fixed when a cage is made."""
    harness = tenant.harness
    bounds = Bounds(memory_bytes, harness.scratch_bytes or scratch_bytes, harness.cpu_milli)
    name = _name_of(tenant.submitter)
    return Start(number, name, harness.runtime, site, bounds, list(gpus), harness.own_process)


def _name_of(submitter: Submitter) -> bytes:
    return submitter.node + submitter.uid.to_bytes(4)


def _progress_memory() -> int:
    """Shared memory of sealed size: the worker holds it, too, and reading what it has cut off would kill the daemon."""
    descriptor = os.memfd_create("meshd-progress", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, PROGRESS_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor
