"""The executor under any order of events: every lease ends once, no worker serves two submitters, drains empty it."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.effects import (
    Drained,
    EndWorker,
    GrantCredit,
    PrepareEnvironment,
    ReportEnds,
    ReportResults,
    RunOn,
    StartWorker,
    Wake,
)
from meshd_node.core.executor.events import (
    DrainBegan,
    DrainEnded,
    EnvironmentFailed,
    EnvironmentGone,
    EnvironmentReady,
    LeaseArrived,
    LeasedWork,
    Lent,
    OwnerBound,
    OwnerLost,
    OwnerUp,
    Recalled,
    Tick,
    WorkerEnded,
    WorkerRan,
    WorkerReady,
)
from meshd_node.core.executor.machine import Executor
from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Harness, Tenant
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WorkResult
from meshd_protocol.records import Gpu, Runtime

GIB = 1 << 30
GPUS = (Gpu("GPU-1", "a card", 8 << 30),)
LENT = [Lent(3, 3 * GIB, GPUS), Lent(4, 3 * GIB, GPUS), Lent(2, 3 * GIB), Lent(4, 8 * GIB, GPUS, gpu_workers=2)]
HARNESSES = [
    Harness(),
    Harness(cpu_milli=2_500),
    Harness(memory_bytes=3 * GIB),
    Harness(cpu_milli=100, memory_bytes=GIB, gpus=1),
    Harness(environment=b"e" * 32),
    Harness(environment=b"e" * 32, cpu_milli=1_500),
]
OWNERS = [b"a" * 20, b"b" * 20]
ALLOWED = [tuple(Runtime), (Runtime.COMMAND, Runtime.PYTHON), (Runtime.WASM,), ()]
FUNCTIONS = [b"f" * 32, b"g" * 32]
owners = st.sampled_from(OWNERS)


class ExecutorRules(RuleBasedStateMachine):
    """A model of what is owed: attempts that were leased and not recalled, by owner, job and number."""

    def __init__(self) -> None:
        super().__init__()
        self.lent = LENT[0]
        self.machine = Executor(b"n" * 20, self.lent, ExecutorConfig(turn_ms=20, worker_idle_ms=500))
        self.now = 10.0
        self.up: set[bytes] = set()
        self.owed: Counter = Counter()
        self.workers: dict[int, Tenant] = {}
        self.memory: dict[int, int] = {}
        self.gpus: dict[int, tuple[str, ...]] = {}
        self.ready: set[int] = set()
        self.given: dict[int, list[int]] = {}
        self.payloads: dict[tuple[int, int], bytes] = {}
        self.windows: dict[bytes, int] = {}
        self.unit = 0
        self.draining = False
        self.drained = 0
        self.closed: set[bytes] = set()
        # Environments that were asked for, and those that are there.
        self.asked: set[bytes] = set()
        self.there: set[bytes] = {b""}

    def send(self, event: object) -> None:
        for effect in self.machine.handle(event, self.now):
            self.perform(effect)

    def perform(self, effect: object) -> None:
        match effect:
            case StartWorker(worker, tenant, gpus, memory_bytes):
                assert worker not in self.workers
                assert tenant.harness.environment in self.there
                self.workers[worker] = tenant
                self.memory[worker], self.gpus[worker] = memory_bytes, gpus
                self.check_room()
                self.given[worker] = []
            case EndWorker(worker, _):
                self.gone(worker)
            case RunOn(worker, job, serials, functions, payloads):
                assert worker in self.ready
                assert 1 <= len(serials) == len(functions) == len(payloads) <= 256
                assert serials == sorted(serials)
                assert not self.given[worker] or serials[0] > self.given[worker][-1]
                tenant = Tenant(Submitter(OWNERS[0], job[0]), HARNESSES[job[2]])
                assert self.workers[worker] == tenant, "a worker got another tenant's unit"
                self.given[worker] += serials
            case ReportResults(owner, job, _, results) | ReportEnds(owner, job, _, results):
                assert owner in self.up
                for result in results:
                    key = (owner, job, result.index, result.attempt)
                    assert self.owed[key] == 1, "an end that nobody is owed"
                    del self.owed[key]
            case GrantCredit(owner, units, _):
                assert 0 <= units <= 4096
                assert owner not in self.closed or units == 0
                assert not self.draining or units == 0
                self.windows[owner] = units
            case PrepareEnvironment(environment):
                assert environment not in self.asked | self.there
                self.asked.add(environment)
            case Drained():
                self.drained += 1
            case Wake(at):
                assert at > 0

    def check_room(self) -> None:
        """Whoever is hired fits beside all others."""
        assert sum(tenant.harness.slots for tenant in self.workers.values()) <= self.lent.slots
        assert sum(self.memory.values()) <= self.lent.memory_bytes
        users = Counter(uuid for gpus in self.gpus.values() for uuid in gpus)
        assert users.keys() <= {gpu.uuid for gpu in self.lent.gpus}
        assert all(count <= self.lent.gpu_workers for count in users.values())

    def gone(self, worker: int) -> None:
        del self.workers[worker], self.memory[worker], self.gpus[worker]
        self.ready.discard(worker)
        del self.given[worker]

    @rule(owner=owners)
    def owner_comes(self, owner: bytes) -> None:
        if owner not in self.up:
            self.up.add(owner)
            self.send(OwnerUp(owner))

    @precondition(lambda self: self.up)
    @rule(
        data=st.data(),
        count=st.integers(1, 300),
        uid=st.integers(0, 3),
        timeout_ms=st.sampled_from([0, 50]),
        kind=st.integers(0, len(HARNESSES) - 1),
    )
    def lease(self, data: st.DataObject, count: int, uid: int, timeout_ms: int, kind: int) -> None:
        owner = data.draw(st.sampled_from(sorted(self.up)))
        job = bytes([uid, timeout_ms, kind]) + bytes(17)
        works = [LeasedWork(self.unit + i, i % 3, FUNCTIONS[(self.unit + i) // 50 % 2], b"p") for i in range(count)]
        self.unit += data.draw(st.sampled_from([count, count, count // 2]))  # at times some are leased twice
        for work in works:
            self.owed[owner, job, work.unit, work.attempt] = 1
        self.send(LeaseArrived(owner, job, 0, Tenant(Submitter(OWNERS[0], uid), HARNESSES[kind]), timeout_ms, works))

    @precondition(lambda self: self.workers.keys() - self.ready)
    @rule(data=st.data())
    def worker_is_ready(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.workers.keys() - self.ready)))
        self.ready.add(worker)
        self.send(WorkerReady(worker))

    @precondition(lambda self: any(self.given.values()))
    @rule(data=st.data(), took_us=st.sampled_from([1, 800, 20_000, 1 << 60]), part=st.integers(1, 300))
    def worker_answers(self, data: st.DataObject, took_us: int, part: int) -> None:
        worker = data.draw(st.sampled_from([worker for worker, given in self.given.items() if given]))
        serials, self.given[worker] = self.given[worker][:part], self.given[worker][part:]
        self.now += 0.002
        self.send(WorkerRan(worker, [WorkResult(serial, AttemptStatus.RETURNED, b"v", took_us) for serial in serials]))

    @precondition(lambda self: any(len(given) > 1 for given in self.given.values()))
    @rule(data=st.data())
    def worker_hands_back(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([worker for worker, given in self.given.items() if len(given) > 1]))
        serials, self.given[worker] = self.given[worker][1:], self.given[worker][:1]
        self.send(WorkerRan(worker, [WorkResult(serial, AttemptStatus.HANDED_BACK, b"") for serial in serials]))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), started=st.booleans())
    def worker_dies(self, data: st.DataObject, started: bool) -> None:
        worker = data.draw(st.sampled_from(sorted(self.workers)))
        running = self.given[worker][0] if started and self.given[worker] else None
        self.gone(worker)
        self.send(WorkerEnded(worker, running, "killed"))

    @precondition(lambda self: self.owed)
    @rule(data=st.data(), everything=st.booleans())
    def recall(self, data: st.DataObject, everything: bool) -> None:
        owner, job, unit, _ = data.draw(st.sampled_from(sorted(self.owed)[:20]))
        for key in list(self.owed):
            if key[:2] == (owner, job) and (everything or key[2] == unit):
                del self.owed[key]
        self.send(Recalled(owner, job, 0, [] if everything else [unit]))

    @precondition(lambda self: len(self.up) == len(OWNERS))
    @rule(owner=owners)
    def owner_goes(self, owner: bytes) -> None:
        self.up.remove(owner)
        self.windows.pop(owner, None)
        self.closed.discard(owner)
        for key in [key for key in self.owed if key[0] == owner]:
            del self.owed[key]
        self.send(OwnerLost(owner))

    @precondition(lambda self: self.up)
    @rule(data=st.data(), runtimes=st.sampled_from(ALLOWED), patience_s=st.sampled_from([0, 0.05, 5]))
    def an_owner_may_have_more_or_less(
        self, data: st.DataObject, runtimes: tuple[Runtime, ...], patience_s: float
    ) -> None:
        owner = data.draw(st.sampled_from(sorted(self.up)))
        self.closed -= {owner}
        self.closed |= set() if runtimes else {owner}
        self.send(OwnerBound(owner, runtimes, self.now + patience_s, "the charter"))

    @precondition(lambda self: self.asked)
    @rule(well=st.booleans())
    def an_environment_is_built_or_not(self, well: bool) -> None:
        environment = self.asked.pop()
        if well:
            self.there.add(environment)
            self.send(EnvironmentReady(environment))
        else:
            self.send(EnvironmentFailed(environment, "no wheel"))

    @precondition(lambda self: len(self.there) > 1)
    @rule()
    def an_environment_that_nothing_uses_goes(self) -> None:
        for environment in self.there - {b""}:
            if not self.machine.uses(environment):
                assert environment not in {tenant.harness.environment for tenant in self.workers.values()}
                self.there.remove(environment)
                self.send(EnvironmentGone(environment))

    @rule(lent=st.sampled_from(LENT))
    def more_or_less_is_lent(self, lent: Lent) -> None:
        self.lent = lent
        self.send(lent)

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.send(Tick())

    @precondition(lambda self: self.unit > 1000 and not self.draining)
    @rule()
    def drain(self) -> None:
        self.draining, self.drained = True, 0
        self.send(DrainBegan(self.now + 5))

    @precondition(lambda self: self.draining)
    @rule()
    def take_work_again(self) -> None:
        self.draining = False
        self.send(DrainEnded())
        assert self.windows.keys() == self.up
        assert all(units for owner, units in self.windows.items() if owner not in self.closed)

    @invariant()
    def what_is_owed_is_queued_or_given(self) -> None:
        assert self.machine.running == sum(map(len, self.given.values()))
        assert len(self.owed) <= self.machine.running + self.machine.queued

    @invariant()
    def nothing_waits_at_an_idle_node(self) -> None:
        if self.machine.queued and not self.asked:
            assert self.workers.keys() - self.ready or any(self.given.values())

    def teardown(self) -> None:
        """Once the world is quiet, all that was leased has ended and the windows are open; then a drain empties it."""
        for _ in range(20_000):
            if not self.owed and not self.machine.queued:
                break
            while self.asked:
                self.an_environment_is_built_or_not(well=True)
            for worker in sorted(self.workers):
                if worker in self.workers and worker not in self.ready:
                    self.ready.add(worker)
                    self.send(WorkerReady(worker))
                if self.given.get(worker):
                    serials, self.given[worker] = self.given[worker], []
                    self.now += 0.001 * len(serials)
                    self.send(WorkerRan(worker, [WorkResult(n, AttemptStatus.RETURNED, b"", 1_000) for n in serials]))
        assert not self.owed, f"{len(self.owed)} leases never ended"
        if not self.draining:
            self.draining, self.drained = True, 0
            self.send(DrainBegan(self.now + 1))
        self.now += 6
        self.send(Tick())
        assert (self.workers, self.drained) == ({}, 1)
        assert (self.machine.running, self.machine.queued) == (0, 0)


ExecutorRules.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestExecutorRules = ExecutorRules.TestCase
