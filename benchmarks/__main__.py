"""The command line of the benchmarks: what to measure, of whom, how often. See README.md beside this file."""

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import report
from benchmarks.bytecode import compile_packages
from benchmarks.figures import Outcome, Sizes
from benchmarks.machine import facts
from benchmarks.measures import MEASURES
from benchmarks.peers import ENTRIES
from benchmarks.processes import adopt_orphans
from benchmarks.schedule import Plan, run

# 128 and the number of SIGINT, as shells say it.
_INTERRUPTED = 130


def main() -> int:
    """Measure and print; the exit code says whether the run came to its end."""
    arguments = _parse()
    plan = Plan(
        entries=[ENTRIES[key] for key in arguments.peers],
        measures=[MEASURES[key] for key in arguments.measures],
        sizes=Sizes(units=arguments.units, calls=arguments.calls),
        rounds=arguments.rounds,
        deadline_s=arguments.deadline,
    )
    # SIGTERM ends a run as Ctrl-C does: what was started is ended, what was measured is printed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    adopt_orphans()
    compile_packages()
    told = facts() | {"command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])}
    outcomes: list[Outcome] = []
    try:
        _measure(plan, outcomes)
    except KeyboardInterrupt:
        told |= {"interrupted": f"after {len(outcomes)} measurements"}
    if arguments.json is not None:
        found = {"facts": told, "sizes": asdict(plan.sizes), "figures": [outcome.as_json() for outcome in outcomes]}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(report.markdown(plan.entries, plan.measures, outcomes, told, plan.sizes))
    return _INTERRUPTED if "interrupted" in told else 0


def _measure(plan: Plan, outcomes: list[Outcome]) -> None:
    # Sockets lie below it, and the path of a socket has at most 107 bytes.
    with TemporaryDirectory(prefix="mb-", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        for outcome in run(plan, Path(scratch)):
            outcomes.append(outcome)
            _tell(outcome)


def _tell(outcome: Outcome) -> None:
    figure = outcome.figure
    found = outcome.problem if figure is None else f"{figure.value} {figure.answered or ''} {figure.parts or ''}"
    print(f"{outcome.measure} {outcome.round} {outcome.peer}: {found}", file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition(":")[0])
    parser.add_argument(
        "--peers", type=_some_of(ENTRIES), default=list(ENTRIES), metavar="P,…", help=", ".join(ENTRIES)
    )
    parser.add_argument(
        "--measures", type=_some_of(MEASURES), default=list(MEASURES), metavar="M,…", help=", ".join(MEASURES)
    )
    parser.add_argument("--rounds", type=_positive, default=3, help="how often each is measured (3)")
    parser.add_argument("--units", type=_positive, default=Sizes().units, help="units submitted one by one (10000)")
    parser.add_argument("--calls", type=_positive, default=Sizes().calls, help="calls by map (1000000)")
    parser.add_argument("--deadline", type=float, default=120.0, metavar="S", help="for each measurement (120)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every single figure there")
    return parser.parse_args()


def _some_of(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    def chosen(text: str) -> list[str]:
        keys = text.split(",")
        if unknown := [key for key in keys if key not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return keys

    return chosen


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
