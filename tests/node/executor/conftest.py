"""A node's surroundings in memory: owners that lease, workers that start when asked, and a record of all effects."""

from collections import Counter, defaultdict
from hashlib import sha256

import pytest

from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.effects import (
    Drained,
    Effect,
    EndWorker,
    GrantCredit,
    PrepareEnvironment,
    ReportEnds,
    ReportResults,
    RunOn,
    StartWorker,
    Wake,
)
from meshd_node.core.executor.events import Event, LeaseArrived, LeasedWork, Lent, Tick, WorkerRan, WorkerReady
from meshd_node.core.executor.machine import Executor
from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Harness, Tenant
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WorkResult

ALICE, BOB, CAROL = b"a" * 20, b"b" * 20, b"c" * 20
JOB = b"j" * 20
FUNCTION = b"f" * 32


class Bench:
    """Drives one machine; time moves only when told."""

    def __init__(self, slots: int = 2, lent: Lent | None = None, **config: int) -> None:
        self.shrunk = False
        self.lent = lent or Lent(slots, slots << 30)
        self.machine = Executor(b"n" * 20, self.lent, ExecutorConfig(**config))
        self.now = 100.0
        self.wake_at = float("inf")
        self.windows: dict[bytes, int] = {}
        self.starting: list[int] = []
        self.tenant_of: dict[int, Tenant] = {}
        self.gpus_of: dict[int, tuple[str, ...]] = {}
        self.memory_of: dict[int, int] = {}
        self.live: set[int] = set()
        self.given: dict[int, dict[int, bytes]] = defaultdict(dict)
        self.runs: list[RunOn] = []
        self.killed: list[EndWorker] = []
        self.ends: list[tuple[bytes, int, int, AttemptStatus]] = []
        self.details: dict[tuple[int, int], str] = {}
        self.drained = 0
        self.preparing: list[PrepareEnvironment] = []

    def send(self, event: Event) -> list[Effect]:
        effects = self.machine.handle(event, self.now)
        for effect in effects:
            self._perform(effect)
        if not self.shrunk:
            self.check_room()
        return effects

    def check_room(self) -> None:
        """Nobody has what another has, and together they have no more than is lent."""
        assert sum(self.tenant_of[worker].harness.slots for worker in self.live) <= self.lent.slots
        assert sum(self.memory_of[worker] for worker in self.live) <= self.lent.memory_bytes
        users = Counter(uuid for worker in self.live for uuid in self.gpus_of[worker])
        assert all(count <= self.lent.gpu_workers for count in users.values())

    def lend(self, lent: Lent) -> None:
        """Lend more, or less: then what is beyond it may go on until it is idle."""
        for effect in self.machine.handle(lent, self.now):
            self._perform(effect)
        self.lent, self.shrunk = lent, True

    def workers_of(self, tenant: Tenant) -> list[int]:
        return [worker for worker in sorted(self.live) if self.tenant_of[worker] == tenant]

    def lease(
        self,
        *units: int,
        owner: bytes = ALICE,
        uid: int = 0,
        attempt: int = 0,
        harness: Harness = Harness(),  # noqa: B008  # a value
        **more: object,
    ) -> list[Effect]:
        works = [LeasedWork(unit, attempt, FUNCTION, b"payload") for unit in units]
        event = {
            "job": _job(uid, harness),
            "epoch": 0,
            "tenant": Tenant(Submitter(owner, uid), harness),
            "timeout_ms": 0,
            "units": works,
            **more,
        }
        return self.send(LeaseArrived(owner=owner, **event))  # type: ignore[arg-type]

    def ready(self) -> None:
        while self.starting:
            self.send(WorkerReady(self.starting.pop(0)))

    def ran(
        self, worker: int, *serials: int, status: AttemptStatus = AttemptStatus.RETURNED, took_us: int = 100
    ) -> None:
        for serial in serials:
            self.given[worker].pop(serial, None)
        self.send(WorkerRan(worker, [WorkResult(serial, status, b"\xc0", took_us) for serial in serials]))

    def run_all(self, took_us: int = 100) -> None:
        """Let every worker answer everything, until nothing is left to answer."""
        self.ready()
        while any(self.given[worker] for worker in self.live):
            for worker in sorted(self.live):
                if serials := list(self.given[worker]):
                    self.now += took_us * len(serials) / 1e6
                    self.ran(worker, *serials, took_us=took_us)
            self.ready()

    def wait(self, seconds: float) -> None:
        """Let time pass, with a tick whenever one was wished for."""
        until = self.now + seconds
        while self.wake_at <= until:
            self.now, self.wake_at = max(self.now, self.wake_at), float("inf")
            self.send(Tick())
        self.now = until

    def ended(self, status: AttemptStatus) -> list[int]:
        return [unit for _, unit, _, ended in self.ends if ended is status]

    def _perform(self, effect: Effect) -> None:
        match effect:
            case PrepareEnvironment():
                self.preparing.append(effect)
            case StartWorker(worker, tenant, gpus, memory_bytes):
                self.live.add(worker)
                self.starting.append(worker)
                self.tenant_of[worker] = tenant
                self.gpus_of[worker] = gpus
                self.memory_of[worker] = memory_bytes
            case EndWorker(worker):
                self.live.remove(worker)
                self.killed.append(effect)
                self.starting = [number for number in self.starting if number != worker]
            case RunOn(worker, _, serials, functions, payloads):
                assert worker in self.live
                assert worker not in self.starting
                assert 1 <= len(serials) == len(functions) == len(payloads) <= 256
                assert not self.given[worker].keys() & set(serials)
                self.given[worker].update(zip(serials, payloads, strict=True))
                self.runs.append(effect)
            case ReportResults(owner, _, _, results) | ReportEnds(owner, _, _, results):
                assert 1 <= len(results) <= 256
                self.ends += [(owner, result.index, result.attempt, result.status) for result in results]
                self.details |= {(result.index, result.attempt): result.detail for result in results}
            case GrantCredit(owner, units):
                self.windows[owner] = units
            case Drained():
                self.drained += 1
            case Wake(at):
                self.wake_at = at

    def ended_more_than_once(self) -> list[tuple[bytes, int, int]]:
        counts = Counter(end[:3] for end in self.ends)
        return [end for end, count in counts.items() if count > 1]


def _job(uid: int, harness: Harness) -> bytes:
    """A job has one harness."""
    if harness == Harness():
        return bytes([uid]) * 20
    return bytes([uid]) + sha256(repr(harness).encode()).digest()[:19]


@pytest.fixture
def new_bench() -> type[Bench]:
    return Bench
