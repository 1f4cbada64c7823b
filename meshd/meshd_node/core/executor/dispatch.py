"""Who runs what next: work that waits meets workers that have room, within each submitter."""

from itertools import groupby

from meshd_node.core.executor.backlog import Backlog, key_of
from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.crew import Crew, Given, Worker
from meshd_node.core.executor.effects import EndWorker, RunOn, StartWorker
from meshd_node.core.executor.step import Step
from meshd_node.core.submitter import Submitter
from meshd_protocol.limits import BATCH_UNITS_MAX


class Dispatch:
    """The backlog and the crew, and what moves between them."""

    def __init__(self, slots: int, config: ExecutorConfig) -> None:
        """Start with neither work nor workers."""
        self._config = config
        self._grace_s = config.recall_grace_ms / 1e3
        self.backlog = Backlog(config)
        self.crew = Crew(slots, config.turn_ms / 1e3)

    def feed_all(self, step: Step) -> None:
        """Give out what waits of everybody."""
        for submitter in list(self.backlog.submitters()):
            self.feed(submitter, step)

    def feed(self, submitter: Submitter, step: Step) -> None:
        """Give what waits of a submitter to its workers, to the idle ones first; get more workers for the rest."""
        for idle in (True, False):
            waiting = self.backlog.waiting(submitter)
            if not waiting:
                return
            workers = [
                worker for worker in self.crew.of(submitter) if worker.ready and (idle is not bool(worker.given))
            ]
            for worker in workers:
                self._give(worker, -(-waiting // len(workers)), step)
        self._staff(submitter, step)

    def feed_worker(self, worker: Worker, step: Step) -> None:
        """Fill one worker; if nothing of its submitter's is left for it, others may use its slot."""
        while self._give(worker, BATCH_UNITS_MAX, step):
            pass
        if not worker.given and self.backlog:
            self.feed_all(step)

    def put_back(self, entries: list[Given]) -> None:
        """Queue again, in front, what was given but not started."""
        wanted = [entry for entry in entries if key_of(entry[1]) in entry[0].held]
        for share, group in groupby(reversed(wanted), key=lambda entry: entry[0]):
            self.backlog.put_back(share, [work for _, work in group][::-1])

    def end_worker(self, worker: Worker, reason: str, step: Step) -> list[Given]:
        """End a worker; return what it had not answered."""
        step.effects.append(EndWorker(worker.number, reason))
        return self.crew.dismiss(worker)

    def end_idle(self, step: Step) -> None:
        """End workers that were idle for long."""
        for worker in list(self.crew.workers.values()):
            if self.idle_until(worker) <= step.now:
                self.end_worker(worker, "idle", step)

    def idle_until(self, worker: Worker) -> float:
        """When a worker ends for being idle; the last submitter's never do."""
        if worker.given or not worker.ready or worker.submitter == self.crew.last_submitter:
            return float("inf")
        return worker.idle_since + self._config.worker_idle_ms / 1e3

    def _give(self, worker: Worker, units: int, step: Step) -> bool:
        """Give a batch of at most `units` to a worker that has room, unless somebody else is due to have its slot."""
        backlog = self.backlog
        if not backlog:
            return False
        claimant = self.crew.claimant(worker, backlog.submitters(), backlog.waiting, step.now)
        if claimant is not None:
            self._make_room(worker, claimant, step)
            return False
        if not backlog.waiting(worker.submitter):
            return False
        long = backlog.next_is_long(worker.submitter)
        if not worker.has_room(long):
            return False
        share, works = backlog.take(worker.submitter, units)
        serials = worker.give(share, works, long, step.now)
        functions, payloads = [work.function for work in works], [work.payload for work in works]
        step.effects.append(RunOn(worker.number, share.job, serials, functions, payloads))
        worker.set_deadline(self._grace_s)
        return True

    def _staff(self, submitter: Submitter, step: Step) -> None:
        """Get more workers for what waits: in free slots, or in place of others' idle ones."""
        missing = self.backlog.waiting(submitter) - self.crew.starting(submitter)
        while missing > 0 and (self.crew.free or self._end_idle_other(submitter, step)):
            self._hire(submitter, step)
            missing -= 1

    def _make_room(self, worker: Worker, claimant: Submitter, step: Step) -> None:
        if not worker.given:
            self.end_worker(worker, "its slot is due to another submitter", step)
            self._hire(claimant, step)

    def _hire(self, submitter: Submitter, step: Step) -> None:
        worker = self.crew.hire(submitter, step.now)
        self.backlog.turn(submitter)
        step.effects.append(StartWorker(worker.number, submitter))

    def _end_idle_other(self, submitter: Submitter, step: Step) -> bool:
        idle = [
            worker
            for worker in self.crew.workers.values()
            if worker.ready
            and not worker.given
            and worker.submitter != submitter
            and not self.backlog.waiting(worker.submitter)
        ]
        if not idle:
            return False
        self.end_worker(min(idle, key=lambda worker: worker.idle_since), "another submitter needs its slot", step)
        return True
