"""The machine's capacity in one value, and the offer that is made of it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from meshd_node.capacity.cgroups import cpu_quota, memory_left
from meshd_node.capacity.gpu_watch import GpuWatch
from meshd_node.capacity.gpus import load_nvml, survey
from meshd_node.capacity.pythons import PYTHON
from meshd_node.capacity.runtimes import runtimes
from meshd_node.capacity.speed import python_loops_per_s
from meshd_protocol.limits import NAME_CHARS_MAX
from meshd_protocol.records import CageLayer, CageLevel, Gpu, Offer, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What this process may use now. `faults` says in words what could not be used."""

    cpu_milli: int
    memory_bytes: int
    gpus: tuple[Gpu, ...]
    python: str
    platform: str
    python_loops_per_s: int
    faults: tuple[str, ...] = ()


def measure(root: Path = Path("/"), clock: Callable[[], float] = time.perf_counter) -> Capacity:
    """Measure everything; takes about 20 ms, nearly all of it the benchmark."""
    gpus = GpuWatch()
    gpus.look(survey(load_nvml(root)), ())
    return Capacity(
        cpu_milli=usable_cpu_milli(len(os.sched_getaffinity(0)), root),
        memory_bytes=usable_memory_bytes(psutil.virtual_memory().available, root),
        gpus=gpus.gpus,
        python=PYTHON,
        platform=platform_text(os.uname()),
        python_loops_per_s=python_loops_per_s(clock),
        faults=gpus.faults,
    )


def usable_cpu_milli(affinity: int, root: Path) -> int:
    """Thousandths of CPUs: the allowed ones, or less by a quota. A quota close to nothing still is one thousandth."""
    return max(1, int(1000 * min(affinity, cpu_quota(root))))


def usable_memory_bytes(available: int, root: Path) -> int:
    """What the machine and every cgroup above us can still give."""
    return int(min(available, memory_left(root)))


def platform_text(name: os.uname_result) -> str:
    """System, kernel and architecture, for people and for filters by architecture (the last word)."""
    return f"{name.sysname} {name.release} {name.machine}"[-NAME_CHARS_MAX:]


class Lent(Protocol):
    """The operator's own bounds."""

    @property
    def slots(self) -> int:
        """Units that may run at the same time; -1: one for each CPU."""
        ...


def slots_of(lent: Lent, capacity: Capacity) -> int:
    """How many units run at the same time: as many as the operator says, else one for each whole CPU."""
    return lent.slots if lent.slots >= 0 else max(1, capacity.cpu_milli // 1000)


def lent_memory_bytes(capacity: Capacity, bound: int) -> int:
    """How much memory work may have: what was measured, and no more than the operator's own bound; 0 is none."""
    return min(capacity.memory_bytes, bound or capacity.memory_bytes)


def make_offer(
    capacity: Capacity,
    *,
    phase: Phase,
    slots: int,
    memory_bytes: int,
    cage: CageLevel,
    own_operator_only: bool,
    layers: tuple[CageLayer, ...] = (),
) -> Offer:
    """Offer this capacity. `memory_bytes` is the operator's own bound; 0 lends what was measured."""
    return Offer(
        phase=phase,
        cpu_milli=capacity.cpu_milli,
        memory_bytes=lent_memory_bytes(capacity, memory_bytes),
        gpus=list(capacity.gpus),
        slots=slots,
        pythons=[capacity.python],
        platform=capacity.platform,
        python_loops_per_s=capacity.python_loops_per_s,
        cage=cage,
        own_operator_only=own_operator_only,
        runtimes=runtimes(),
        layers=layers,
    )
