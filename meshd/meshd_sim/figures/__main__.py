"""`python -m meshd_sim.figures`: measure, print beside the goals; 1 if one is missed."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Final

from meshd_sim.figures.detection import crashes, joins
from meshd_sim.figures.healing import splits
from meshd_sim.figures.rows import Row
from meshd_sim.figures.speed import memory, speed
from meshd_sim.figures.traffic import bandwidth
from meshd_sim.figures.trouble import false_deaths, slander

_FIGURES: Final[dict[str, Callable[[], Iterator[Row]]]] = {
    "joins": joins,
    "crashes": crashes,
    "false-deaths": false_deaths,
    "slander": slander,
    "splits": splits,
    "bandwidth": bandwidth,
    "speed": speed,
    "memory": memory,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m meshd_sim.figures", description="Measure the simulated mesh.")
    parser.add_argument("--only", action="append", choices=list(_FIGURES), help="these figures; all if absent")
    parser.add_argument("--json", action="store_true", help="one object a line")
    options = parser.parse_args(arguments)
    missed = 0
    for name in options.only or _FIGURES:
        for row in _FIGURES[name]():
            missed += not row.reached
            sys.stdout.write(json.dumps(asdict(row) | {"reached": row.reached}) if options.json else str(row))
            sys.stdout.write("\n")
            sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
