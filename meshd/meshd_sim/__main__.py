"""`python -m meshd_sim`: run seeds until one shows what does not hold."""

import argparse
import math
import random
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TextIO, TypeAlias, TypeVar

from meshd_sim.campaign import Campaign, Outcome, Plan, swarm_of
from meshd_sim.conditions import Model
from meshd_sim.faults import Fault
from meshd_sim.jobs import command
from meshd_sim.jobs.command import JobRun
from meshd_sim.jobs.faults import JobFault
from meshd_sim.jobs.world import JobOptions

# One seed, with the trace going somewhere or nowhere; or many, so many or for so many minutes.
Runs: TypeAlias = tuple[Callable[[TextIO | None], int], Callable[[int, float], int]]

_KindT = TypeVar("_KindT", Fault, JobFault)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0 if everything held, 1 if not."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        run_one, run_many = _job_runs(options) if options.jobs else _mesh_runs(options)
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --faults: {error}")
    if options.seeds > 1 or options.for_minutes:
        return run_many(options.seeds, options.for_minutes)
    if options.trace is None:
        return run_one(None)
    try:
        with Path(options.trace).open("w", encoding="utf-8") as out:
            return run_one(out)
    except OSError as error:
        parser.error(f"argument --trace: can not write {options.trace}: {error.strerror}")


def _mesh_runs(options: argparse.Namespace) -> Runs:
    """What looks at memberships."""
    plan = Plan(
        seed=_seed(options),
        nodes=options.nodes,
        minutes=options.minutes,
        faults=_faults_of(Fault, options.faults),
        model=options.network,
    )
    return partial(_run_one, plan), partial(_run_many, plan)


def _job_runs(options: argparse.Namespace) -> Runs:
    """What looks at jobs."""
    faults = _faults_of(JobFault, options.faults)
    world = JobOptions(nodes=options.nodes, jobs=options.jobs, trouble_s=60.0 * options.minutes, faults=faults)
    run = JobRun(_seed(options), world)
    return partial(command.run_one, run), partial(command.run_many, run)


def _seed(options: argparse.Namespace) -> int:
    return options.seed if options.seed is not None else secrets.randbits(32)


def _run_one(plan: Plan, out: TextIO | None) -> int:
    began = time.perf_counter()
    outcome = Campaign(plan, out).run()
    took = time.perf_counter() - began
    _say(f"seed {plan.seed}, {plan.nodes} nodes, {_faults(outcome)}")
    _say(f"{outcome.virtual_s:.0f} s in {took:.1f} s, {outcome.events} events, {outcome.events / took:,.0f} a second")
    _say("settled after " + ", ".join(f"{each:.0f}" for each in outcome.settled_s) + " s of quiet")
    for what in sorted(outcome.seen):
        _say(f"{outcome.seen[what]:7} {what}")
    _say(f"trace {outcome.trace}")
    return _fail(plan, outcome) if outcome.failure else 0


def _run_many(plan: Plan, seeds: int, for_minutes: float) -> int:
    """Run fresh seeds: so many, or for so long."""
    rng = random.Random(plan.seed)  # noqa: S311 - repeatable is what it has to be
    began, done, events, virtual_s = time.perf_counter(), 0, 0, 0.0
    seen: dict[str, int] = {}
    while done < seeds or time.perf_counter() - began < 60.0 * for_minutes:
        one = replace(plan, seed=rng.randrange(1 << 32))
        outcome = Campaign(one).run()
        if outcome.failure:
            _say(f"after {done} seeds that held:")
            return _fail(one, outcome)
        done, events, virtual_s = done + 1, events + outcome.events, virtual_s + outcome.virtual_s
        for what, times in outcome.seen.items():
            seen[what] = seen.get(what, 0) + times
    took = time.perf_counter() - began
    _say(f"{done} seeds held: {virtual_s / 3600:.1f} hours of virtual time in {took:.0f} s, {events:,} events")
    for what in sorted(seen):
        _say(f"{seen[what]:7} {what}")
    return 0


def _fail(plan: Plan, outcome: Outcome) -> int:
    """Print what broke and the least that still breaks."""
    _say(f"FAILED: {outcome.failure}")
    _say(f"again: {plan.command()}")
    least = minimise(plan)
    if least != plan:
        _say(f"least: {least.command()}")
    return 1


def minimise(plan: Plan) -> Plan:
    """Leave out one kind of fault after the other, as long as something still breaks."""
    least = replace(plan, faults=swarm_of(plan).kinds)
    for kind in Fault:
        if kind in least.faults:
            fewer = replace(least, faults=least.faults - {kind})
            if Campaign(fewer).run().failure:
                least = fewer
    return least


def _faults(outcome: Outcome) -> str:
    struck = [f"{kind.value} {outcome.struck.get(kind, '')}".strip() for kind in Fault if kind in outcome.swarm.kinds]
    return "faults: " + (", ".join(struck) or "none")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m meshd_sim", description="Run a simulated mesh and check it.")
    parser.add_argument("--seed", type=int, help="which world; a fresh one if absent")
    parser.add_argument("--nodes", type=_count, default=9)
    parser.add_argument(
        "--minutes", type=_minutes, default=1.0, help="virtual minutes of each seed, at least one round"
    )
    parser.add_argument("--faults", default="all", help="none, all, or kinds: a,b,c; each seed has about half of them")
    parser.add_argument("--jobs", type=_count, help="look at so many jobs on these nodes, not at their membership")
    parser.add_argument("--network", type=_model, default=Model.TLS, help="tls or datagram")
    parser.add_argument("--seeds", type=_count, default=1, help="run so many fresh seeds, drawn from --seed")
    parser.add_argument("--for-minutes", type=_minutes, default=0.0, help="run fresh seeds for so many real minutes")
    parser.add_argument("--trace", help="write what happens into this file")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError("must be above 0")
    return minutes


def _faults_of(kinds: type[_KindT], text: str) -> frozenset[_KindT]:
    if text == "all":
        return frozenset(kinds)
    names = [] if text == "none" else text.split(",")
    try:
        return frozenset(kinds(name) for name in names)
    except ValueError:
        known = ", ".join(kind.value for kind in kinds)
        raise argparse.ArgumentTypeError(f"{text!r} is not none, all, or kinds of: {known}") from None


def _model(text: str) -> Model:
    try:
        return Model(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither tls nor datagram") from None


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
