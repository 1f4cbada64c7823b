"""`python -m meshd_sim --jobs N`: run worlds of jobs until one shows what does not hold."""

import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TextIO

from meshd_sim.checkers.broken import Broken
from meshd_sim.jobs.faults import JobFault
from meshd_sim.jobs.world import JobOptions, JobReport, run_jobs


@dataclass(frozen=True, slots=True)
class JobRun:
    """One seed and its world."""

    seed: int
    options: JobOptions

    def command(self) -> str:
        """How a person runs it again."""
        options = self.options
        faults = ",".join(kind.value for kind in JobFault if kind in options.faults) or "none"
        if options.faults == frozenset(JobFault):
            faults = "all"
        size = f"--nodes {options.nodes} --minutes {options.trouble_s / 60:g}"
        return f"python -m meshd_sim --jobs {options.jobs} --seed {self.seed} {size} --faults {faults}"

    def broken(self) -> str:
        """What does not hold in it; "" if everything does."""
        try:
            run_jobs(self.seed, self.options)
        except Broken as broken:
            return str(broken)
        return ""


def run_one(run: JobRun, out: TextIO | None) -> int:
    """Run one seed; 0 if everything held, 1 if not."""
    began = time.perf_counter()
    try:
        report = run_jobs(run.seed, run.options, out)
    except Broken as broken:
        return _fail(run, str(broken))
    took = time.perf_counter() - began
    _say(f"seed {run.seed}, {run.options.nodes} nodes, {run.options.jobs} jobs, {report.units} units")
    _say(f"{report.seconds:.0f} s in {took:.1f} s, {report.events} events; {report.late_s:.1f} s of work for nobody")
    _say_seen(report.seen)
    _say(f"trace {report.trace}")
    return 0


def run_many(run: JobRun, seeds: int, for_minutes: float) -> int:
    """Run fresh seeds: so many, or for so long."""
    rng = random.Random(run.seed)  # noqa: S311 - repeatable is what it has to be
    began, reports, seen = time.perf_counter(), 0, Counter[str]()
    while reports < seeds or time.perf_counter() - began < 60.0 * for_minutes:
        one = replace(run, seed=rng.randrange(1 << 32))
        try:
            report: JobReport = run_jobs(one.seed, one.options)
        except Broken as broken:
            _say(f"after {reports} seeds that held:")
            return _fail(one, str(broken))
        reports += 1
        seen += report.seen
    _say(f"{reports} seeds held in {time.perf_counter() - began:.0f} s")
    _say_seen(seen)
    return 0


def minimise(run: JobRun) -> JobRun:
    """Leave out one kind of fault after the other, as long as something still breaks."""
    least = run
    for kind in JobFault:
        fewer = replace(least, options=replace(least.options, faults=least.options.faults - {kind}))
        if fewer.broken():
            least = fewer
    return least


def _fail(run: JobRun, broken: str) -> int:
    _say(f"FAILED: {broken}")
    _say(f"again: {run.command()}")
    least = minimise(run)
    if least != run:
        _say(f"least: {least.command()}")
    return 1


def _say_seen(seen: Counter[str]) -> None:
    for what in sorted(seen):
        _say(f"{seen[what]:7} {what}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
