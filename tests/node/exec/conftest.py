"""A pool with real processes, and somebody who is told what its workers do."""

import os
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import cloudpickle
import pytest
import trio

from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Harness, Tenant
from meshd_node.exec.pool import WorkerPool
from meshd_protocol import values
from meshd_protocol.calls import CallForm
from meshd_protocol.ids import Digest, JobId, NodeId, function_digest
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WorkResult

JOB = JobId(b"j" * 20)
SUBMITTER = Submitter(NodeId(b"n" * 20), 0)
WORKER_MODULE = "meshd_node.exec.worker"


class Host:
    """Runs functions on workers and keeps what came back."""

    def __init__(self, maker: str = "plain", *, own_process: bool = False) -> None:
        self.tenant = Tenant(SUBMITTER, Harness(own_process=own_process))
        self.functions: dict[Digest, bytes] = {}
        self.ready: set[int] = set()
        self.results: dict[int, dict[int, WorkResult]] = {}
        self.ended: dict[int, tuple[int | None, str]] = {}
        self.pool = WorkerPool(self, self.functions.__getitem__, worker_module=WORKER_MODULE, maker=maker)
        self._news = trio.Event()
        self._serials: dict[int, int] = {}

    # --- what a pool tells --------------------------------------------------------------------------------------

    def worker_ready(self, worker: int) -> None:
        self.ready.add(worker)
        self._tell()

    def worker_ran(self, worker: int, results: list[WorkResult]) -> None:
        assert worker not in self.ended
        for result in results:
            assert result.serial not in self.results[worker], "one answer for each serial"
            self.results[worker][result.serial] = result
        self._tell()

    def worker_ended(self, worker: int, running: int | None, reason: str) -> None:
        assert worker not in self.ended, "a worker ends once"
        self.ended[worker] = (running, reason)
        self._tell()

    # --- what a test asks ---------------------------------------------------------------------------------------

    async def start(self, worker: int = 1) -> int:
        self.results[worker] = {}
        self.pool.start(worker, self.tenant, (), 0)
        await self.until(lambda: worker in self.ready)
        return worker

    def give(self, worker: int, function: Callable[..., Any], *calls: tuple[Any, ...]) -> list[int]:
        payloads = [bytes([CallForm.CALL]) + pickle.dumps((arguments, {})) for arguments in calls]
        return self.give_raw(worker, cloudpickle.dumps(function), *payloads)

    def give_raw(self, worker: int, function: bytes, *payloads: bytes) -> list[int]:
        digest = function_digest(function)
        self.functions[digest] = function
        first = self._serials.get(worker, 0) + 1
        self._serials[worker] = first + len(payloads) - 1
        serials = list(range(first, first + len(payloads)))
        self.pool.run_units(worker, JOB, serials, [digest] * len(serials), list(payloads))
        return serials

    async def answers(self, worker: int, serials: list[int]) -> list[WorkResult]:
        await self.until(lambda: self.results[worker].keys() >= set(serials) or worker in self.ended)
        assert worker not in self.ended, self.ended[worker]
        return [self.results[worker][serial] for serial in serials]

    async def call(self, worker: int, function: Callable[..., Any], *arguments: Any) -> Any:
        (result,) = await self.answers(worker, self.give(worker, function, arguments))
        if result.status is AttemptStatus.RAISED:
            raise values.decode_exception(result.value, lambda *_: None, result.detail)
        return values.decode(result.value)

    async def pid_of(self, worker: int) -> int:
        """The worker's own process, of which those of its units are children if they have any."""
        return int(await self.call(worker, os.getppid if self.tenant.harness.own_process else os.getpid))

    async def end_of(self, worker: int) -> tuple[int | None, str]:
        await self.until(lambda: worker in self.ended)
        return self.ended[worker]

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(20):
            while not condition():
                await self._news.wait()

    async def until_seen(self, condition: Callable[[], bool]) -> None:
        """Wait for what nobody tells of, since it happens in the kernel."""
        with trio.fail_after(20):
            while not condition():  # noqa: ASYNC110  # there is no event to wait for
                await trio.sleep(0.002)

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


@pytest.fixture(params=[False, True], ids=["inline", "own process"])
def own_process(request: pytest.FixtureRequest) -> bool:
    """Whether each unit has a process of its own: whatever a pool promises holds in both cases."""
    return bool(request.param)


@pytest.fixture
def new_host(own_process: bool) -> Callable[[], Any]:
    @asynccontextmanager
    async def open_host(maker: str = "plain") -> AsyncIterator[Host]:
        host = Host(maker, own_process=own_process)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(host.pool.run))
            yield host
            nursery.cancel_scope.cancel()

    return open_host


@pytest.fixture
async def host(new_host):
    async with new_host() as host:
        yield host
