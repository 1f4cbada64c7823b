"""Runs the measurements in turns (A B C, A B C, …), each in a process of its own and within a deadline."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.figures import Figure, Outcome, Sizes
from benchmarks.measures import PREPARE, Measure
from benchmarks.peers import Entry
from benchmarks.processes import end_all_below

_FOLDER = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run. `deadline_s` bounds one measurement, with the system's start and end."""

    entries: list[Entry]
    measures: list[Measure]
    sizes: Sizes
    rounds: int
    deadline_s: float


def run(plan: Plan, scratch: Path) -> Iterator[Outcome]:
    """Yield every outcome as soon as it is there; those of what can not be opened are not tried."""
    usable = []
    for entry in plan.entries:
        if not entry.is_installed:
            continue
        outcome = _measure(entry, PREPARE, 0, plan, scratch)
        if outcome.problem:
            yield outcome
        else:
            usable.append(entry)
    for measure in plan.measures:
        for number in range(1, plan.rounds + 1):
            for entry in usable:
                yield _measure(entry, measure, number, plan, scratch)


def _measure(entry: Entry, measure: Measure, number: int, plan: Plan, scratch: Path) -> Outcome:
    answer, log = scratch / "answer.json", scratch / "probe.log"
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.probe", entry.key, measure.key, str(scratch)]
    command += [json.dumps(asdict(plan.sizes)), str(answer)]
    problem = ""
    try:
        with log.open("wb") as output:
            done = subprocess.run(
                command,
                cwd=_FOLDER,
                env=os.environ | {"PYTHONWARNINGS": "ignore"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=plan.deadline_s,
                check=False,
            )
        if done.returncode != 0:
            problem = _last_line(log) or f"ended with code {done.returncode}"
    except subprocess.TimeoutExpired:
        problem = f"no answer within {plan.deadline_s:.0f} s"
    finally:
        end_all_below()
    if problem or not answer.exists():
        return Outcome(entry.key, measure.key, number, None, problem or "ended without an answer")
    found = json.loads(answer.read_text())
    if found["not_offered"]:
        return Outcome(entry.key, measure.key, number, None, found["not_offered"], offered=False)
    return Outcome(entry.key, measure.key, number, Figure(**found["figure"]))


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""
