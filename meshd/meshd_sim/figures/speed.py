"""How fast the simulator itself is. The only figures here that depend on the machine."""

import resource
import time
from collections.abc import Iterator
from typing import Final

from meshd_sim.figures.meshes import settled
from meshd_sim.figures.rows import Row
from meshd_sim.world import World

_VIRTUAL_S: Final = 60.0
_LARGEST: Final = 8_192


def speed() -> Iterator[Row]:
    """Quiet meshes for a minute of virtual time, one of them with a crash."""
    world, nodes, _ = settled(0, 128)
    world.crash(nodes[7], machine=True)
    events, took = _timed(world)
    how = f"128 nodes, {_VIRTUAL_S / took:.0f} times real time"
    yield Row(name="simulator, events a second", measured=events / took, goal=250e3, unit="/s", how=how, least=True)
    world, nodes, _ = settled(0, 1_024)
    world.crash(nodes[7], machine=True)
    events, took = _timed(world)
    how = f"1,024 nodes, {events / took:,.0f} events a second"
    yield Row(name="simulator, times real time", measured=_VIRTUAL_S / took, goal=20, unit="x", how=how, least=True)


def memory() -> Iterator[Row]:
    """The largest mesh, all views whole."""
    began = time.perf_counter()
    world = World(0)
    world.found(_LARGEST)
    world.run(10.0)
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    how = f"8,192 nodes with whole views, 10 s of their time in {took:.0f} s"
    yield Row(name="simulator, memory", measured=peak, goal=20, unit="GiB", how=how)


def _timed(world: World) -> tuple[int, float]:
    events, began = world.engine.events, time.perf_counter()
    world.run(_VIRTUAL_S)
    return world.engine.events - events, time.perf_counter() - began
