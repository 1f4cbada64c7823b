"""Why a unit waits, or on whose word it is believed, in lines for people."""

from meshd_node.core.owner.dispatch import Dispatch
from meshd_node.core.owner.executors import Executor, Executors, why_not
from meshd_node.core.owner.job import Job, Tried
from meshd_node.core.owner.plan import Trust
from meshd_node.core.owner.pool import voters
from meshd_node.core.owner.reasons import camps, few, short
from meshd_node.core.owner.unit import Trial, Unit


class Explain:
    """Reads the owner's tables; changes nothing."""

    def __init__(self, executors: Executors, dispatch: Dispatch) -> None:
        self._executors = executors
        self._dispatch = dispatch

    def job(self, job: Job, now: float) -> list[str]:
        """The job as a whole."""
        counts = f"{job.done} done, {job.failed} failed, {job.cancelled} cancelled"
        lines = [f"{job.state}: {counts}, {job.running} running, {job.waiting()} waiting of {job.submitted} units"]
        if job.first_failure:
            lines.append(f"first failure: {job.first_failure}")
        if job.ended is None and not job.units:
            lines.append("nothing is left to do; it ends when its program closes it")
        elif job.has_work():
            lines += self._obstacles(job, self._longest_waiting(job), now)
        return lines

    def unit(self, job: Job, index: int, now: float) -> list[str]:
        """One unit of it."""
        unit = job.units.get(index)
        if unit is None:
            return _ended(job, index)
        running = [short(grant.executor.node) for grant in unit.grants()]
        lines = [f"running on {', '.join(running)}"] if running else ["waiting"]
        if unit.trial is not None:
            lines += _history(unit.trial)
        if not running or (unit.trial is not None and unit.trial.shelf is not None):
            lines += self._obstacles(job, unit, now)
        return lines

    def _longest_waiting(self, job: Job) -> Unit | None:
        for shelf in job.shelves.waiting():
            return shelf.head()
        return job.head()

    def _obstacles(self, job: Job, unit: Unit | None, now: float) -> list[str]:
        if job.paused:
            return ["its program does not read results; it goes on when the program does"]
        fitting = self._executors.fitting(job.terms)
        resting = [each for each in fitting if job.backoff.bars(each.node, now)]
        if not fitting:
            return self._misfits(job)
        refusals = [
            f"{short(each.node)} refused this job and is asked again in {job.backoff.until(each.node) - now:.1f} s: "
            f"{job.backoff.reason(each.node)}"
            for each in resting
        ]
        slow = [f"{short(each.node)} comes last: {each.doubt.slow}" for each in fitting if each.doubt.slow]
        return [
            *few(refusals, "nodes that refused it"),
            *few(slow, "nodes that come last"),
            *self._shortage(job, unit, now),
        ]

    def _misfits(self, job: Job) -> list[str]:
        """Why no node can run any unit of a job."""
        if not self._executors.all():
            return ["no node is connected that could run it: start one, or invite one (meshd invite)"]
        return self._unable(job)

    def _unable(self, job: Job) -> list[str]:
        """Which nodes can not run any unit of a job, each with its reason."""
        reasons = [(each.node, why_not(each, job.terms)) for each in self._executors.all()]
        lines = [f"{short(node)} can not run it: {reason}" for node, reason in reasons if reason]
        return few(lines, "nodes that can not run it")

    def _shortage(self, job: Job, unit: Unit | None, now: float) -> list[str]:
        """What is missing though some node fits: voters, trust, or credit."""
        pool = self._dispatch.pool(job, now)
        if unit is not None and unit.trial is not None and unit.trial.shelf is not None:
            group = self._dispatch.group(job, unit.trial.shelf, now)
        else:
            group = pool.fresh
        if group:
            return _credit(group)
        if job.plan.trust is Trust.TRUSTED_ONLY:
            return ["it must run at most once, so it needs a trusted node, and there is none", *self._unable(job)]
        there = _there(pool.every)
        if unit is not None and unit.trial is not None and unit.trial.votes:
            lack = f"its copies differ or are too few: it needs one more voter, and all have voted: {there}"
        else:
            lack = f"its quorum needs {job.plan.quorum} distinct voters, and {there}"
        return [lack, *self._unable(job)]


def _there(able: list[Executor]) -> str:
    """Who could vote."""
    count = voters(able)
    told = ", ".join(few([short(each.node) for each in able], "nodes")) or "no node can run it now"
    together = " (nodes of one operator have one vote together, if they are not trusted)" if len(able) > count else ""
    return f"there {'is' if count == 1 else 'are'} {count}: {told}{together}"


def _credit(group: frozenset[Executor]) -> list[str]:
    if not any(each.window_units for each in group):
        return ["the nodes that could run it take no work at the moment"]
    full = sum(1 for each in group if not each.is_open())
    if full < len(group):
        return ["its turn has not come: a node has room, and it is placed next"]
    if full == 1:
        return ["the one node that could run it is busy: it has as many units as it takes at a time"]
    return [f"all {full} nodes that could run it are busy: each has as many units as it takes at a time"]


def _history(trial: Trial) -> list[str]:
    lines = [f"failed on {short(failure.node)}: {failure.reason}" for failure in trial.failures]
    if trial.votes:
        lines.append(f"votes so far, {trial.agreed} agree: {camps(trial.votes)}")
    return lines


def _ended(job: Job, index: int) -> list[str]:
    if not 0 <= index < job.submitted:
        return [f"this job has no unit {index}: it has {job.submitted}"]
    for tried in reversed(job.tried):
        if tried.unit == index:
            return _tried(tried)
    for believed in reversed(job.believed):
        if index in believed.indices:
            why = "trusted" if believed.trusted else "a stranger, and the job asks for one copy only"
            return [f"believed on the word of {short(believed.node)} ({why})"]
    return ["it has ended; why is kept for the latest units only"]


def _tried(tried: Tried) -> list[str]:
    lines = [f"failed on {short(failure.node)}: {failure.reason}" for failure in tried.failures]
    agreed = [vote for vote in tried.votes if vote.digest == tried.digest]
    if tried.digest is None:
        verdict = f"no result was accepted: {camps(tried.votes)}" if tried.votes else "no result came"
    else:
        verdict = f"believed, since these agree: {camps(agreed)}"
    outvoted = [vote for vote in tried.votes if vote.digest != tried.digest]
    lines.append(verdict)
    if tried.digest is not None and outvoted:
        lines.append(f"outvoted: {camps(outvoted)}")
    return lines
