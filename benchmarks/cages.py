"""What cages and runtimes cost, beside what they may: `python -m benchmarks.cages`. Rows take turns in each round."""

import argparse
import itertools
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cloudpickle

from benchmarks.caged import environments, limits
from benchmarks.caged.loops import ADD, LOOPS, SIZES, Module, compiled
from benchmarks.caged.warden import Warden, Worker
from benchmarks.machine import facts

cloudpickle.register_pickle_by_value(sys.modules[__name__])
_PAIRS: Final = 20
_UNITS: Final = 256
_OWN_UNITS: Final = 32
_CALLS: Final = 1_000
# A blank cage takes the place of the one that was taken a quarter of a second later, and is warm soon after.
_BLANK_S: Final = 1.5


@dataclass
class Row:
    """One figure: `sample` takes it once; above `goal` it is missed."""

    title: str
    unit: str
    goal: float
    sample: Callable[[], float]
    found: list[float] = field(default_factory=list)
    problem: str = ""

    def take(self) -> None:
        """Take it once more; what fails is not tried again."""
        if not self.problem:
            try:
                self.found.append(self.sample())
            except (RuntimeError, OSError, ValueError) as error:
                self.problem = (str(error).strip().splitlines() or [type(error).__name__])[-1]

    def line(self) -> str:
        """As a row of a table."""
        if self.problem or not self.found:
            return f"| {self.title} | {self.goal:g} {self.unit} | - | not measured: {self.problem} |"
        middle = statistics.median(self.found)
        spread = f"{middle:.3g} ({min(self.found):.3g} to {max(self.found):.3g})"
        return (
            f"| {self.title} | {self.goal:g} {self.unit} | {spread} | {'held' if middle <= self.goal else 'missed'} |"
        )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cages", description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often each figure is taken (7)")
    rounds = parser.parse_args().rounds
    told = facts() | {"command": shlex.join(["python", "-m", "benchmarks.cages", *sys.argv[1:]])}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp")))
        scratch.chmod(0o711)  # cages of another user pass through it
        caged = stack.enter_context(Warden(scratch / "caged"))
        plain = stack.enter_context(Warden(scratch / "plain", "plain"))
        told |= {"cage": caged.text}
        rows = [*_cage_rows(caged, plain), *_runtime_rows(scratch), _environment_row(scratch)]
        for _ in range(rounds):
            for row in rows:
                row.take()
    print("\n".join(f"- {name}: {value}" for name, value in told.items()))
    print("\n| figure | goal | median (least to most) | |\n|---|---|---|---|")
    print("\n".join(row.line() for row in rows))
    return 0


def _cage_rows(caged: Warden, plain: Warden) -> Iterator[Row]:
    tenants = (f"tenant {number}".encode() for number in itertools.count())
    (_, inside), (_, outside) = caged.start(next(tenants)), plain.start(next(tenants))
    _, own = caged.start(next(tenants), own_process=True)
    yield Row("unit in a warm caged worker, above uncaged", "%", 10, _Beside(inside, outside).sample)
    yield Row("first unit of a new submitter", "ms", 150, lambda: _first_unit(caged, next(tenants)))
    yield Row("unit of nothing, inline", "ms", 0.05, _Units(inside, _UNITS).sample)
    yield Row("unit of nothing, a process each", "ms", 0.5, _Units(own, _OWN_UNITS).sample)
    yield Row("memory used up to whole cage gone", "ms", 100, lambda: limits.memory(caged, next(tenants)))
    yield Row("wall clock over to worker gone", "ms", 100, lambda: limits.wall_clock(caged, next(tenants)))
    yield Row("end of a worker with all processes a cage may have", "ms", 100,
              lambda: limits.processes(caged, next(tenants)))  # fmt: skip


def _runtime_rows(scratch: Path) -> Iterator[Row]:
    module, small = Module(LOOPS), Module(ADD)
    yield Row("wasm call, warm", "µs", 80, _Calls(small, _CALLS, 1e6).sample)
    yield Row("wasm unit of one call, with its instance", "ms", 0.2, _Calls(small, 1, 1e3).sample)
    loops = compiled(scratch)
    for name, size in SIZES.items():
        row = Row(f"{name} in wasm, to gcc -O2", "times", 2.5, _against(module, name, size, loops))
        row.problem = "" if loops else "there is no gcc"
        yield row


def _environment_row(scratch: Path) -> Row:
    folders = (scratch / f"environment-{number}" for number in itertools.count())
    return Row("builds of an environment that 20 ask for", "builds", 1, lambda: environments.builds(next(folders)))


def _first_unit(caged: Warden, tenant: bytes) -> float:
    time.sleep(_BLANK_S)
    began = time.perf_counter()
    number, worker = caged.start(tenant)
    worker.run(worker.load(abs), 1, -1)
    took = time.perf_counter() - began
    caged.kill(number)
    return took * 1e3


class _Beside:
    """The same unit in two workers in turns: some computing, and some calls of the system."""

    def __init__(self, inside: Worker, outside: Worker) -> None:
        self._workers = [(worker, worker.load(_some_work)) for worker in (inside, outside)]

    def sample(self) -> float:
        took: list[list[float]] = [[], []]
        for pair in range(_PAIRS):
            for which in (0, 1) if pair % 2 else (1, 0):
                worker, function = self._workers[which]
                began = time.perf_counter()
                worker.run(function)
                took[which].append(time.perf_counter() - began)
        return (statistics.median(took[0]) / statistics.median(took[1]) - 1) * 100


class _Units:
    """Units of nothing, given to a worker at once."""

    def __init__(self, worker: Worker, count: int) -> None:
        self._worker, self._count = worker, count
        self._function = worker.load(int)

    def sample(self) -> float:
        self._worker.run(self._function)  # warm
        began = time.perf_counter()
        ran = self._worker.run(self._function, self._count)
        return (time.perf_counter() - began) / ran * 1e3


class _Calls:
    """Units of so many calls of a function of a module, as a worker runs them."""

    def __init__(self, module: Module, count: int, scale: float) -> None:
        self._module, self._count, self._scale = module, count, scale
        self._payload = module.payload("add", *[(1, 2)] * count)

    def sample(self) -> float:
        units = max(1, 200 // self._count)
        began = time.perf_counter()
        for _ in range(units):
            self._module.run(self._payload)
        return (time.perf_counter() - began) / units / self._count * self._scale


def _against(
    module: Module, name: str, size: int, loops: dict[str, Callable[[int], int]] | None
) -> Callable[[], float]:
    payload = module.payload(name, (size,))

    def sample() -> float:
        assert loops is not None, "a row without gcc is not taken"
        took: list[list[float]] = [[], []]
        for _ in range(5):
            began = time.perf_counter()
            found = module.run(payload)
            between = time.perf_counter()
            expected = loops[name](size)
            took[0].append(between - began)
            took[1].append(time.perf_counter() - between)
            if found != [expected]:
                raise ValueError(f"{found} is not {expected}")
        return statistics.median(took[0]) / statistics.median(took[1])

    return sample


def _some_work() -> int:
    total = 0
    for number in range(20_000):
        total += number * number % 7
    for _ in range(20):
        os.stat(".")
    return total


if __name__ == "__main__":
    sys.exit(main())
