"""Gives waiting units to nodes with credit, one lease a turn."""

import math
import random
from collections import deque

from meshd_node.core.owner.config import OwnerConfig
from meshd_node.core.owner.effects import Lease
from meshd_node.core.owner.executors import Executor, Executors
from meshd_node.core.owner.job import Job
from meshd_node.core.owner.placement import choose, group_of, share
from meshd_node.core.owner.pool import Pool, pool_of
from meshd_node.core.owner.retry import await_alike, await_more
from meshd_node.core.owner.rota import Rota
from meshd_node.core.owner.shelves import Shelf, Shelves
from meshd_node.core.owner.timers import Timers
from meshd_node.core.owner.turn import Turn
from meshd_node.core.owner.unit import Grant, Unit
from meshd_protocol.limits import BATCH_BYTES, BATCH_UNITS_MAX, ENVIRONMENT_BUILD_S

# A node that holds so many units for each slot gets no small batch on top: what waits grows into a larger one until the
# node answers. Only windows of short units are that wide, so that it answers within milliseconds; and a batch costs
# two signatures and two verifications, 0.3 ms, however many units it has.
PLENTY = 64
FULL_BATCH = 128


class Dispatch:
    """Holds the rota, and beside it the jobs that no node there is may run: only a change of the mesh helps them."""

    def __init__(self, executors: Executors, timers: Timers, rng: random.Random, config: OwnerConfig) -> None:
        self._executors = executors
        self._timers = timers
        self._rng = rng
        self._config = config
        self._rota = Rota()
        self._parked: dict[Job, None] = {}
        self._version = executors.version

    def line_up(self, job: Job) -> None:
        """A job may have work that can be given out."""
        if not job.queued and not job.paused and job.has_work():
            self._parked.pop(job, None)
            job.queued = True
            self._rota.put(job)

    def forget(self, job: Job) -> None:
        """A job is over."""
        self._parked.pop(job, None)
        if job.queued:
            job.queued = False
            self._rota.remove(job)

    def run(self, turn: Turn) -> None:
        """Give out what can be given out now."""
        if self._version != self._executors.version:
            self._version = self._executors.version
            for parked in list(self._parked):
                self.line_up(parked)
        stuck: list[Job] = []
        while self._executors.open and (job := self._rota.take()) is not None:
            if job.paused or not job.has_work():
                job.queued = False
            elif self._lease(job, turn):
                self._line_up_again(job)
            elif self._placeable(job, turn.now):
                stuck.append(job)
            else:
                job.queued = False
                self._parked[job] = None
        for waiting in reversed(stuck):
            self._rota.put_back(waiting)

    def _line_up_again(self, job: Job) -> None:
        if job.has_work():
            self._rota.put(job)
        else:
            job.queued = False

    def pool(self, job: Job, now: float) -> Pool:
        """The nodes that may run a job's units now."""
        if job.pool is None or job.pool.version != self._executors.version:
            executors = self._executors
            fitting = executors.fitting(job.terms) if job.only is None else executors.only(job.only, job.terms)
            if job.backoff:
                fitting = [each for each in fitting if not job.backoff.bars(each.node, now)]
            job.pool = pool_of(job.plan, fitting, self._executors.version)
        return job.pool

    def group(self, job: Job, shelf: Shelf, now: float) -> frozenset[Executor]:
        """The nodes that may run the units of a shelf now."""
        pool = self.pool(job, now)
        if shelf.pool is not pool:
            shelf.pool, shelf.group = pool, frozenset(group_of(job.plan, pool, shelf.exclusion))
        return shelf.group

    def _placeable(self, job: Job, now: float) -> bool:
        """Whether any node may run something of what waits, once it has credit."""
        if job.head() is not None and self.pool(job, now).fresh:
            return True
        return any(shelf.group for shelf in job.shelves.waiting())

    def _lease(self, job: Job, turn: Turn) -> bool:
        """Give out one batch of a job; units that wait for a further attempt come first."""
        for shelf in job.shelves.waiting():
            head = shelf.head()
            candidates = self._candidates(self.group(job, shelf, turn.now), head)
            if candidates:
                self._give(job, shelf, candidates, len(shelf.units), turn)
                return True
        if job.plan.copies > 1 and job.shelves.count >= self._config.half_done_max:
            return False
        waiting = len(job.fresh) - job.withered
        candidates = self._candidates(self.pool(job, turn.now).fresh, job.head())
        if waiting < FULL_BATCH:
            candidates = [each for each in candidates if each.held_units < job.pace.slots(each) * PLENTY]
        if candidates:
            self._give(job, None, candidates, waiting, turn)
        return bool(candidates)

    def _candidates(self, group: frozenset[Executor], head: Unit | None) -> list[Executor]:
        if head is None or not group:
            return []
        size = len(head.payload)
        return [each for each in self._executors.open.values() if each in group and each.takes(size)]

    def _give(self, job: Job, shelf: Shelf | None, candidates: list[Executor], waiting: int, turn: Turn) -> None:
        executor = choose(candidates, job.pace, self._rng)
        alone = shelf is None and job.plan.believes_alone(executor.trusted)
        if shelf is None and not alone:
            waiting *= job.plan.copies
        count = min(
            share(executor, candidates, waiting, job.pace),
            executor.window_units - executor.held_units,
            BATCH_UNITS_MAX,
        )
        units = draw(job.fresh, executor, count) if shelf is None else draw_again(shelf, job.shelves, executor, count)
        attempt = 0 if units[0].trial is None else units[0].trial.attempts
        grant = self._grant(job, executor, attempt, len(units), turn.now)
        lease = _lease_of(job, units, grant)
        executor.hold(job.id, lease.indices, sum(map(len, lease.payloads)), grant, turn.now)
        self._executors.reopen(executor)
        self._watch(executor, grant)
        job.copies += len(units)
        if alone:
            job.running += len(units)
            for unit in units:
                unit.grant = grant
        else:
            _add_copies(job, units, grant)
        turn.lease(lease)

    def _grant(self, job: Job, executor: Executor, attempt: int, units: int, now: float) -> Grant:
        expected = job.pace.finish_s(executor, units)
        duration = min(max(3 * expected, self._config.lease_min_s), self._config.lease_max_s)
        return Grant(executor, attempt, now, duration, self._patience(job, executor, units))

    def _patience(self, job: Job, executor: Executor, units: int) -> float:
        """How long a node may be silent about a unit while its session is up; then the attempt is lost.

        A lease is renewed at its end, since a session that is up answers pings: the node lives. With a time limit, the
        node should have ended the unit itself: twice what its whole queue may take is a wide margin; it may
        have to build the environment before. Without one, an own node may run a unit for ever, and so may whoever runs
        one that must not run twice.
        """
        limit = job.policy.timeout_ms / 1_000
        if limit:
            build = ENVIRONMENT_BUILD_S if job.terms.needs.environment else 0
            queue = (executor.held_units + units) / job.pace.slots(executor) + 1
            return 2 * limit * queue + self._config.lease_min_s + build
        if executor.trusted or not job.plan.pure:
            return math.inf
        return self._config.stranger_patience_s

    def _watch(self, executor: Executor, grant: Grant) -> None:
        if executor.check_at is None or grant.deadline < executor.check_at:
            executor.check_at = grant.deadline
            self._timers.set(grant.deadline, executor)


def draw(queue: deque[Unit], executor: Executor, count: int) -> list[Unit]:
    """Take units for one lease: of one tranche, and within the batch and the node's window.

    The queue's head is alive and the node takes it. Only a first unit may be larger than a batch.
    """
    drawn = [queue.popleft()]
    tranche = drawn[0].tranche
    size = len(drawn[0].payload)
    room = min(BATCH_BYTES, executor.window_bytes - executor.held_bytes)
    while queue and len(drawn) < count:
        unit = queue[0]
        size += len(unit.payload)
        if unit.ended or unit.tranche != tranche or size > room:
            break
        drawn.append(queue.popleft())
    return drawn


def draw_again(shelf: Shelf, shelves: Shelves, executor: Executor, count: int) -> list[Unit]:
    """The same for units on a shelf, which must also be at the same attempt: a lease has one number for all."""
    drawn: list[Unit] = []
    size = 0
    room = min(BATCH_BYTES, executor.window_bytes - executor.held_bytes)
    while len(drawn) < count and (unit := shelf.head()) is not None:
        size += len(unit.payload)
        if drawn and (not _alike(unit, drawn[0]) or size > room):
            break
        drawn.append(shelf.units.popleft())
        # At once: a unit that came back to this shelf is in its queue twice.
        shelves.take(unit)
    return drawn


def _alike(one: Unit, other: Unit) -> bool:
    return one.tranche == other.tranche and one.open_trial().attempts == other.open_trial().attempts


def _lease_of(job: Job, units: list[Unit], grant: Grant) -> Lease:
    return Lease(
        grant.executor.node,
        job.id,
        job.epoch,
        units[0].tranche,
        int(grant.duration_s * 1_000),
        [unit.index for unit in units],
        [grant.attempt] * len(units),
        [unit.function for unit in units],
        [unit.payload for unit in units],
    )


def _add_copies(job: Job, units: list[Unit], grant: Grant) -> None:
    """Start a replica, or a retry, of units that were drawn together."""
    first_copies = units[0].trial is None
    for unit in units:
        trial = unit.open_trial()
        if not trial.running:
            job.running += 1
        trial.running[grant.executor.node] = grant
        trial.attempts = grant.attempt + 1
    if first_copies:
        await_alike(job, units)
    else:
        for unit in units:
            await_more(job, unit)
