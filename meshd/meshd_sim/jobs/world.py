"""One world of jobs: a seed in, what was seen or what broke out."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, TextIO

from meshd_node.core.owner.config import OwnerConfig
from meshd_sim.conditions import Conditions
from meshd_sim.jobs.citizens import births
from meshd_sim.jobs.faults import JobFault, draw_kinds, draw_rates
from meshd_sim.jobs.part import Machines
from meshd_sim.jobs.plans import JobPlan, draw_plan
from meshd_sim.jobs.rules.silence import SETTLED_S
from meshd_sim.jobs.society import Society
from meshd_sim.jobs.upheaval import Upheaval

# Impatient, so that what takes a day in a real mesh happens within a world.
_OWNER: Final = OwnerConfig(stranger_patience_s=10.0, lease_min_s=5.0, backoff_max_s=10.0, half_done_max=16)
# After the last fault: a node that never answers takes two units at a time, and has them until its patience ends.
_DEADLINE_S: Final = 3_600.0
_LOOK_S: Final = 30.0
# Clocks are too fast or too slow by up to a fifth.
_DRIFT: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What world to make of a seed."""

    nodes: int = 7
    jobs: int = 6
    trouble_s: float = 60.0
    faults: frozenset[JobFault] = frozenset(JobFault)
    machines: Machines = field(default_factory=lambda: Machines(owner_config=_OWNER))


@dataclass(frozen=True, slots=True)
class JobReport:
    """What happened in a world in which nothing broke. `seen` counts what a set of worlds must have seen."""

    trace: str
    events: int
    seconds: float
    units: int
    seen: Counter[str]
    late_s: float


def run_jobs(seed: int, options: JobOptions, out: TextIO | None = None) -> JobReport:
    """Let jobs run in a world in which much goes wrong; raise `Broken` if the engine does."""
    society = Society(seed, Conditions(), options.machines, out)
    rng = society.engine.stream("plans")
    kinds = draw_kinds(rng, options.faults)
    rates = draw_rates(rng, options.faults)
    society.settle(births(options.nodes, kinds, rng), drift=_DRIFT if JobFault.DRIFT in kinds else 0.0)
    _submit(society, [draw_plan(number, rng, within_s=options.trouble_s) for number in range(options.jobs)])
    Upheaval(society, rates, options.trouble_s)
    _run_to_the_end(society, options.trouble_s)
    society.witness.check_end(options.trouble_s)
    for citizen in society.citizens.values():
        if citizen.part is not None:
            citizen.part.owner.check_nothing_is_left()
    return _report(society)


def _run_to_the_end(society: Society, quiet_at: float) -> None:
    """Until all jobs have ended and been silent for a while, or should have."""
    engine, witness = society.engine, society.witness
    while engine.now < quiet_at + _DEADLINE_S:
        engine.run(engine.now + _LOOK_S)
        if engine.now >= quiet_at + _LOOK_S and all(job.state for job in witness.jobs):
            engine.run(engine.now + 2 * SETTLED_S)
            return


def _submit(society: Society, plans: list[JobPlan]) -> None:
    submitters = [citizen for citizen in society.citizens.values() if citizen.submits]

    def begin(plan: JobPlan) -> None:
        citizen = submitters[plan.number % len(submitters)]
        if citizen.process is not None and citizen.part is not None:
            owner = citizen.part.owner
            citizen.process.enter(lambda: owner.begin(plan))

    for plan in plans:
        society.engine.at(plan.opens_at, begin, plan)


def _report(society: Society) -> JobReport:
    witness = society.witness
    units = sum(len(job.units) for job in witness.jobs)
    trace = society.trace.digest()
    return JobReport(trace, society.engine.events, society.engine.now, units, witness.seen, witness.work.late_s)
