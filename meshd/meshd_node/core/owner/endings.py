"""Ends of attempts and what they mean for their units: accepted, tried again, failed or cancelled."""

from meshd_node.core.owner.config import OwnerConfig
from meshd_node.core.owner.effects import Disagreement
from meshd_node.core.owner.events import ResultsArrived
from meshd_node.core.owner.executors import Executor, Executors
from meshd_node.core.owner.job import Believed, Job, Tried
from meshd_node.core.owner.pace import observed
from meshd_node.core.owner.reasons import disagreement_reason, failures_reason, short
from meshd_node.core.owner.retry import await_more
from meshd_node.core.owner.turn import Turn
from meshd_node.core.owner.unit import Failure, Trial, Unit, Vote
from meshd_protocol.ids import Digest, NodeId
from meshd_protocol.limits import REASON_CHARS_MAX
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus, UnitStatus
from meshd_protocol.messages.local import Outcome

# Indexed by the two AttemptStatus that are results; an enum's call would cost a third of a unit's whole way.
_STATUS = (UnitStatus.RETURNED, UnitStatus.RAISED)
# With two that differ, one may lie, and a third node that joins can tell which.
_BABEL = 3


class Endings:
    """Ends attempts and units. Every unit ends through `_close` or, on the path of single copies, in `results`."""

    def __init__(self, executors: Executors, config: OwnerConfig) -> None:
        self._executors = executors
        self._config = config

    def results(self, job: Job, executor: Executor, event: ResultsArrived, turn: Turn) -> int:
        """Take in a batch of results; return how many were no answers to anything that this node holds."""
        held = executor.held.get(job.id)
        if held is None:
            return len(event.results)
        self._learn(job, executor, event.results, turn.now)
        alone = job.plan.believes_alone(executor.trusted)
        units = job.units
        ends = turn.ends(job)
        believed: list[int] = []
        freed = strays = 0
        for result, digest in zip(event.results, event.digests, strict=True):
            index = result.index
            grant = held.get(index)
            if grant is None or grant.attempt != result.attempt or result.status > AttemptStatus.RAISED:
                strays += 1
                continue
            unit = units[index]
            if unit.trial is not None or not alone:
                self._vote(job, unit, executor, result, digest, turn)
                continue
            del held[index], units[index]
            freed += len(unit.payload)
            believed.append(index)
            ends.accepted.append(index)
            ends.digests.append(digest)
            ends.outcomes.append(Outcome(index, _STATUS[result.status], result.value, result.detail))
        self._believe(job, executor, believed, freed)
        return strays

    def attempt_failed(
        self, job: Job, unit: Unit, executor: Executor, status: AttemptStatus, reason: str, turn: Turn
    ) -> None:
        """Charge a failure to a unit, if it is the unit's, and have it tried again, if it may run twice."""
        trial = unit.open_trial()
        self._stop(job, unit, executor)
        turn.touched[job.id] = job
        charged = status in (AttemptStatus.CRASHED, AttemptStatus.TIMED_OUT)
        once = not job.plan.pure and (charged or status is AttemptStatus.INTERRUPTED)
        if charged or once:
            trial.failures.append(Failure(executor.node, reason[:REASON_CHARS_MAX]))
        if status is AttemptStatus.TIMED_OUT and job.ends_by_time_out(executor.trusted):
            self._fail(job, unit, f"it {reason}", turn, UnitStatus.TIMED_OUT)
        elif once:
            self._fail(job, unit, f"it may have run, and must not run twice: {failures_reason(trial)}", turn)
        elif len(trial.failures) >= job.plan.failures_max:
            self._fail(job, unit, failures_reason(trial), turn)
        elif trial.attempts >= self._config.attempts_max:
            self._fail(job, unit, f"given up after {trial.attempts} attempts, the last one: {reason}", turn)
        else:
            await_more(job, unit)

    def node_lost(self, executor: Executor, jobs: dict[bytes, Job], reason: str, turn: Turn) -> None:
        """Everything that a node had not answered is lost."""
        for job_id, held in list(executor.held.items()):
            job = jobs[job_id]
            for index in list(held):
                self.attempt_failed(job, job.units[index], executor, AttemptStatus.CRASHED, reason, turn)

    def node_revoked(self, executor: Executor, jobs: dict[bytes, Job], reason: str, turn: Turn) -> None:
        """Nothing that a node holds is waited for. It is no fault of the units; but some may have run."""
        for job_id, held in list(executor.held.items()):
            job = jobs[job_id]
            for index in list(held):
                self.attempt_failed(job, job.units[index], executor, AttemptStatus.INTERRUPTED, reason, turn)

    def disown(self, node: NodeId, job: Job) -> None:
        """Forget what a node said of a job's undecided units."""
        for unit in job.units.values():
            if unit.trial is not None and unit.trial.disown(node):
                await_more(job, unit)

    def overdue(self, executor: Executor, jobs: dict[bytes, Job], turn: Turn) -> float | None:
        """Renew the leases of a node whose time has come, or give its attempts up; return when to look again."""
        for job_id, held in list(executor.held.items()):
            job = jobs[job_id]
            for index, grant in list(held.items()):
                if grant.lost_at <= turn.now:
                    turn.recall(executor.node, job, index)
                    silence = "it did not answer in time, though its session is up"
                    # As if the node were lost: it is the node that took too long to answer, not the unit.
                    self.attempt_failed(job, job.units[index], executor, AttemptStatus.CRASHED, silence, turn)
                elif grant.deadline <= turn.now:
                    grant.deadline = min(turn.now + grant.duration_s, grant.lost_at)
        return min((grant.deadline for held in executor.held.values() for grant in held.values()), default=None)

    def end_babel(self, job: Job, turn: Turn) -> None:
        """Fail what waits for one more voter, though its copies all differ and nobody is left to ask any more."""
        for shelf in job.shelves.waiting():
            for unit in list(shelf.units):
                if shelf.holds(unit) and self._is_babel(job, unit.open_trial()):
                    self._fail(job, unit, disagreement_reason(job.plan.quorum, unit.open_trial()), turn)

    def cancel(self, job: Job, unit: Unit, turn: Turn) -> None:
        """End a unit that nobody wants any more."""
        self._close(job, unit, turn)
        job.cancelled += 1
        ends = turn.ends(job)
        ends.cancelled.append(unit.index)
        self._deliver(job, Outcome(unit.index, UnitStatus.CANCELLED, b""), turn)

    def _learn(self, job: Job, executor: Executor, results: list[AttemptResult], now: float) -> None:
        took_us = sum(result.took_us for result in results) if len(executor.held) > 1 else 0
        unit_s = observed(executor, job.pace.slots(executor), len(results), took_us, now)
        if unit_s is not None:
            job.pace.learn(executor, unit_s)
        executor.busy_since = now
        if now >= executor.doubt.look_at:
            executor.doubt.look_at = now + self._config.look_s
            shown_s = sum(result.took_us for result in results) / len(results) / 1e6
            executor.doubt.compare(shown_s, executor.loops_per_s, job.pace.look(executor, shown_s))
        if job.backoff:
            job.backoff.forgive(executor.node)
            job.pool = None

    def _believe(self, job: Job, executor: Executor, believed: list[int], freed: int) -> None:
        """Book a batch of single copies that were accepted."""
        count = len(believed)
        if count:
            executor.clear(job.id)
            executor.held_units -= count
            executor.held_bytes -= freed
            executor.answered += count
            job.running -= count
            job.done += count
            job.shares[executor.node] = job.shares.get(executor.node, 0) + count
            job.believed.append(Believed(executor.node, executor.trusted, believed))
        self._executors.reopen(executor)

    def _vote(
        self, job: Job, unit: Unit, executor: Executor, result: AttemptResult, digest: Digest, turn: Turn
    ) -> None:
        trial = unit.open_trial()
        self._stop(job, unit, executor)
        executor.answered += 1
        trial.vote(Vote(executor.node, executor.voter, executor.trusted, digest), result)
        accepted = job.plan.verdict(trial)
        if accepted is not None:
            self._accept(job, unit, trial, accepted, turn)
        elif not job.plan.pure:
            self._fail(job, unit, f"it ran on {short(executor.node)}, which is not trusted any more", turn)
        elif job.plan.hopeless(trial) or self._is_babel(job, trial):
            self._fail(job, unit, disagreement_reason(job.plan.quorum, trial), turn)
        else:
            await_more(job, unit)

    def _is_babel(self, job: Job, trial: Trial) -> bool:
        """Whether three copies or more all differ, and nobody is left to ask: no liar does that, only the function."""
        if trial.running or len(trial.votes) < _BABEL or len(trial.results) < len(trial.votes):
            return False
        voted = {vote.voter for vote in trial.votes}
        return all(executor.voter in voted for executor in self._executors.fitting(job.terms))

    def _accept(self, job: Job, unit: Unit, trial: Trial, accepted: Digest, turn: Turn) -> None:
        self._close(job, unit, turn)
        job.done += 1
        for vote in trial.votes:
            if vote.digest == accepted:
                job.shares[vote.node] = job.shares.get(vote.node, 0) + 1
        self._remember(job, unit, trial, accepted, turn)
        ends = turn.ends(job)
        ends.accepted.append(unit.index)
        ends.digests.append(accepted)
        result = trial.results[accepted]
        self._deliver(job, Outcome(unit.index, _STATUS[result.status], result.value, result.detail), turn)

    def _fail(self, job: Job, unit: Unit, detail: str, turn: Turn, status: UnitStatus = UnitStatus.FAILED) -> None:
        self._close(job, unit, turn)
        job.failed += 1
        job.first_failure = job.first_failure or f"unit {unit.index}: {detail}"[:REASON_CHARS_MAX]
        if unit.trial is not None:
            self._remember(job, unit, unit.trial, None, turn)
        turn.ends(job).failed.append(unit.index)
        self._deliver(job, Outcome(unit.index, status, b"", detail), turn)

    def _remember(self, job: Job, unit: Unit, trial: Trial, accepted: Digest | None, turn: Turn) -> None:
        job.tried.append(Tried(unit.index, accepted, trial.votes, trial.failures))
        if len(trial.results) > 1:
            self._report(job, unit, trial, accepted, turn)

    def _report(self, job: Job, unit: Unit, trial: Trial, accepted: Digest | None, turn: Turn) -> None:
        """Show who differed from whom. Without a verdict nobody was outvoted."""
        votes = [(vote.node, vote.digest, vote.digest == accepted) for vote in trial.votes]
        job.disagreed += 1
        for node, _, agreed in votes:
            if accepted is not None and not agreed:
                job.outvoted[node] = job.outvoted.get(node, 0) + 1
        turn.disagree(Disagreement(job.id, unit.index, accepted, votes, trial.results))

    def _deliver(self, job: Job, outcome: Outcome, turn: Turn) -> None:
        turn.ends(job).outcomes.append(outcome)

    def _stop(self, job: Job, unit: Unit, executor: Executor) -> None:
        """Take one attempt off a node."""
        trial = unit.open_trial()
        del trial.running[executor.node]
        executor.drop(job.id, unit.index, len(unit.payload))
        self._executors.reopen(executor)
        if not trial.running:
            job.running -= 1

    def _close(self, job: Job, unit: Unit, turn: Turn) -> None:
        """Take a unit out of all tables; attempts that still run are recalled."""
        grants = unit.grants()
        for grant in grants:
            turn.recall(grant.executor.node, job, unit.index)
            grant.executor.drop(job.id, unit.index, len(unit.payload))
            self._executors.reopen(grant.executor)
        if grants:
            job.running -= 1
        unit.ended = True
        if unit.trial is None and not grants:
            job.wither()
        job.shelves.take(unit)
        unit.payload = b""
        del job.units[unit.index]
