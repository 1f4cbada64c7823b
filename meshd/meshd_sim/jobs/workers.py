"""Simulated workers of one node: they start, run what they are given in order, hand back, hang and die."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from meshd_node.core.executor.effects import RunOn
from meshd_node.core.executor.events import Event, WorkerEnded, WorkerRan, WorkerReady
from meshd_protocol.ids import JobId, NodeId
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WorkResult
from meshd_sim.jobs.habits import Habits
from meshd_sim.jobs.tasks import Kind, Task, right_result, task_of
from meshd_sim.process import Process

# Results leave a worker together if they come within this time of each other.
_TOGETHER_US: Final = 3_000
# A worker whose unit runs for longer than this hands back what waits behind it.
_PATIENCE_S: Final = 0.02


class Witness(Protocol):
    """Who sees what workers do."""

    def began(self, node: NodeId, job: JobId, index: int) -> None:
        """A worker began with a unit."""
        ...

    def stopped(self, node: NodeId, job: JobId, index: int) -> None:
        """A worker ended a unit, or was ended in it."""
        ...


class _Given:
    """One unit in a worker."""

    __slots__ = ("job", "serial", "task")

    def __init__(self, serial: int, job: JobId, task: Task) -> None:
        self.serial = serial
        self.job = job
        self.task = task


class _Worker:
    """One process. `waiting` are behind `running`."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.running: list[_Given] = []
        self.waiting: deque[_Given] = deque()


class Workforce:
    """All workers of one node."""

    def __init__(
        self, process: Process, habits: Habits, rng: random.Random, tell: Callable[[Event], None], witness: Witness
    ) -> None:
        self._process = process
        self._habits = habits
        self._rng = rng
        self._tell = tell
        self._witness = witness
        self._workers: dict[int, _Worker] = {}
        self._babble = 0

    def start(self, number: int) -> None:
        """Start a process."""
        self._workers[number] = _Worker()
        self._process.after(self._habits.start_s, lambda: self._started(number))

    def end(self, number: int) -> None:
        """Kill a process."""
        worker = self._workers.pop(number)
        for given in worker.running:
            self._witness.stopped(self._process.node, given.job, given.task.index)

    def run(self, run: RunOn) -> None:
        """Hand units over."""
        worker = self._workers[run.worker]
        for serial, payload in zip(run.serials, run.payloads, strict=True):
            worker.waiting.append(_Given(serial, run.job, task_of(payload)))
        if not worker.running:
            self._go_on(run.worker, worker)

    def end_all(self) -> None:
        """The node is gone, and its processes with it."""
        for number in list(self._workers):
            self.end(number)

    def _started(self, number: int) -> None:
        if number not in self._workers:
            return
        if self._rng.random() < self._habits.start_failures:
            self.end(number)
            self._tell(WorkerEnded(number, None, "it could not be started"))
        else:
            self._tell(WorkerReady(number))

    def _go_on(self, number: int, worker: _Worker) -> None:
        """Begin with the next units, as many as are reported together."""
        duration_us = 0.0
        dies = False
        while worker.waiting and duration_us < _TOGETHER_US and not dies:
            given = worker.waiting.popleft()
            worker.running.append(given)
            self._witness.began(self._process.node, given.job, given.task.index)
            if given.task.kind is Kind.HANGS:
                self._leave_hanging(number, worker)
                return
            dies = given.task.kind is Kind.KILLS or self._rng.random() < self._habits.worker_deaths
            duration_us += given.task.took_us * self._habits.slowness
        going = worker.running
        end = self._die if dies else self._answer
        self._process.after(duration_us / 1e6, lambda: end(number, worker, going))
        if worker.waiting and duration_us / 1e6 > _PATIENCE_S:
            self._watch_itself(number, worker)

    def _leave_hanging(self, number: int, worker: _Worker) -> None:
        """The last unit of `running` never ends; those before it are answered."""
        *before, hanging = worker.running
        if before:
            worker.running = [hanging]
            self._report(number, before)
        if self._workers.get(number) is worker:
            self._watch_itself(number, worker)

    def _watch_itself(self, number: int, worker: _Worker) -> None:
        going = worker.running
        self._process.after(_PATIENCE_S, lambda: self._hand_back(number, worker, going))

    def _hand_back(self, number: int, worker: _Worker, going: list[_Given]) -> None:
        if self._is_at(number, worker, going) and worker.waiting:
            back = [WorkResult(given.serial, AttemptStatus.HANDED_BACK, b"") for given in worker.waiting]
            worker.waiting.clear()
            self._tell(WorkerRan(number, back))

    def _answer(self, number: int, worker: _Worker, going: list[_Given]) -> None:
        if self._is_at(number, worker, going):
            worker.running = []
            self._report(number, going)
            if self._workers.get(number) is worker and worker.waiting and not worker.running:
                self._go_on(number, worker)

    def _die(self, number: int, worker: _Worker, going: list[_Given]) -> None:
        """The last unit of `going` kills the process; those before it are answered."""
        if not self._is_at(number, worker, going):
            return
        *before, last = going
        worker.running = [last]
        if before:
            self._report(number, before)
        if self._workers.get(number) is worker:
            self.end(number)
            self._tell(WorkerEnded(number, last.serial, "killed by signal 9"))

    def _is_at(self, number: int, worker: _Worker, going: list[_Given]) -> bool:
        return self._workers.get(number) is worker and worker.running is going

    def _report(self, number: int, done: list[_Given]) -> None:
        for given in done:
            self._witness.stopped(self._process.node, given.job, given.task.index)
        self._tell(WorkerRan(number, list(self._results(done))))

    def _results(self, done: list[_Given]) -> Iterator[WorkResult]:
        for given in done:
            status, value = self._result(given.task)
            yield WorkResult(given.serial, status, value, int(given.task.took_us * self._habits.slowness))

    def _result(self, task: Task) -> tuple[AttemptStatus, bytes]:
        if task.kind is Kind.BABBLES:
            self._babble += 1
            return AttemptStatus.RETURNED, b"babble %d of %s" % (self._babble, self._process.node)
        if self._habits.lies and self._lies_about(task):
            return AttemptStatus.RETURNED, wrong_value(self._habits.ring, task)
        return right_result(task)

    def _lies_about(self, task: Task) -> bool:
        # Not from this node's own chance: a ring lies about the same units.
        chance = random.Random(self._habits.ring + b"%d" % task.index)  # noqa: S311 - repeatable is what it has to be
        return chance.random() < self._habits.lies


def wrong_value(ring: bytes, task: Task) -> bytes:
    """What the nodes of one ring claim."""
    return b"wrong %d says %s" % (task.index, ring)
