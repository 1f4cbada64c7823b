"""`python -m meshd_sim.directory --nodes 1000 [--kill 0.3] [--hostile 0.2]`: what lookups cost, and what they find."""

import argparse
import statistics
import sys
import time

from meshd_sim.directory.mischief import ALL
from meshd_sim.directory.run import Plan, Run, Tally


def main() -> int:
    """Run as the options say and print one line for each sort of operation."""
    plan = _plan()
    began = time.process_time()
    run = Run(plan)
    run.prepare()
    _say(f"{plan.nodes} nodes, {plan.kill:.0%} killed at once, {plan.hostile:.0%} hostile, seed {plan.seed}")
    _say(f"{'':16} {'right':>9} {'old':>4} {'wrong':>5} {'hops':>15} {'questions':>13} {'seconds, virtual':>20}")
    for tally in (run.lookups(), run.gets(thorough=False), run.gets(thorough=True)):
        _say(_line(tally))
    _say(f"{run.world.questions} questions in all, {time.process_time() - began:.1f} s of CPU")
    return 0


def _plan() -> Plan:
    parser = argparse.ArgumentParser(prog="python -m meshd_sim.directory", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill", type=float, default=0.0, help="share of nodes switched off before anybody looks")
    parser.add_argument(
        "--hostile", type=float, default=0.0, help="share of nodes that lie, before anything is published"
    )
    parser.add_argument("--mischief", choices=[each.__name__ for each in ALL], help="what they all do; else by turns")
    parser.add_argument("--operations", type=int, default=300, help="of each sort")
    options = parser.parse_args()
    mischief = tuple(each for each in ALL if options.mischief in (None, each.__name__))
    return Plan(
        nodes=options.nodes,
        seed=options.seed,
        kill=options.kill,
        hostile=options.hostile,
        mischief=mischief,
        operations=options.operations,
    )


def _line(tally: Tally) -> str:
    hops, questions, seconds = _spread(tally.hops), _spread(tally.questions), _spread(tally.seconds)
    return (
        f"{tally.name:16} {tally.right / tally.asked:9.2%} {tally.outdated:4} {tally.wrong:5}"
        f" {hops[0]:5.2f} / {hops[1]:2.0f} / {hops[2]:2.0f} {questions[0]:6.1f} / {questions[1]:3.0f}"
        f" {seconds[0]:6.2f} / {seconds[1]:.2f} / {seconds[2]:.2f}"
    )


def _spread(figures: list[int] | list[float]) -> tuple[float, float, float]:
    """Mean, 95th percentile, largest."""
    ordered = sorted(figures)
    return statistics.fmean(ordered), ordered[int(0.95 * (len(ordered) - 1))], ordered[-1]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


sys.exit(main())
