"""`python -m meshd_sim`: run seeds until one shows what does not hold."""

import argparse
import random
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from meshd_sim.campaign import Campaign, Outcome, Plan, swarm_of
from meshd_sim.conditions import Model
from meshd_sim.faults import Fault


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0 if everything held, 1 if not."""
    options = _parser().parse_args(arguments)
    plan = Plan(
        seed=options.seed if options.seed is not None else secrets.randbits(32),
        nodes=options.nodes,
        minutes=options.minutes,
        faults=options.faults,
        model=options.network,
    )
    if options.seeds > 1 or options.for_minutes:
        return _run_many(plan, options.seeds, options.for_minutes)
    if options.trace is None:
        return _run_one(plan, None)
    with Path(options.trace).open("w", encoding="utf-8") as out:
        return _run_one(plan, out)


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
    parser.add_argument("--minutes", type=float, default=1.0, help="virtual minutes of each seed, at least one round")
    parser.add_argument("--faults", type=_fault_kinds, default=frozenset(Fault), help="none, all, or kinds: a,b,c")
    parser.add_argument("--network", type=_model, default=Model.TLS, help="tls or datagram")
    parser.add_argument("--seeds", type=_count, default=1, help="run so many fresh seeds, drawn from --seed")
    parser.add_argument("--for-minutes", type=float, default=0.0, help="run fresh seeds for so many real minutes")
    parser.add_argument("--trace", help="write what happens into this file")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _fault_kinds(text: str) -> frozenset[Fault]:
    if text == "all":
        return frozenset(Fault)
    names = [] if text == "none" else text.split(",")
    try:
        return frozenset(Fault(name) for name in names)
    except ValueError:
        known = ", ".join(kind.value for kind in Fault)
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
