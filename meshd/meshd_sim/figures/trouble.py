"""Who is held dead though it lives: under links that fail, and under liars."""

import random
from collections.abc import Iterator
from typing import Final

from meshd_sim.checkers.deaths import Deaths
from meshd_sim.figures.meshes import settled
from meshd_sim.figures.rows import Row
from meshd_sim.liars import Liar, Lie, Plot
from meshd_sim.pipes import Pipe
from meshd_sim.world import Node, World

_NODES: Final = 128
_HOUR_S: Final = 3_600.0
_STALLED: Final = (0.10, 0.20, 0.25)
# A link stalls for 2 s on average.
_STALL_S: Final = (1.0, 3.0)
_TROUBLE_EVERY_S: Final = 0.1
# Each link is reset, and each becomes half-open, this often.
_BREAKS_EVERY_S: Final = 600.0
_LIARS: Final = 26
_SLANDER_S: Final = 600.0
_REFUTED_S: Final = 2.0


class _Weather:
    """Troubles links at a steady rate."""

    def __init__(self, world: World, share: float) -> None:
        self._world = world
        self._share = share
        self._rng = random.Random(f"weather/{share}")  # noqa: S311 - repeatable is what it has to be
        world.engine.after(_TROUBLE_EVERY_S, self._next, None)

    def _next(self, _: None) -> None:
        pipes = [pipe for node in self._world.nodes.values() for pipe in node.port.pipes.values()]
        links = [pipe for pipe in pipes if pipe.source.node < pipe.target.node]
        stalls = len(links) * self._share / (sum(_STALL_S) / 2) * _TROUBLE_EVERY_S
        breaks = len(links) / _BREAKS_EVERY_S * _TROUBLE_EVERY_S
        network = self._world.network
        for pipe in self._some(links, stalls):
            seconds = self._rng.uniform(*_STALL_S)
            network.stall(pipe, seconds)
            network.stall(pipe.twin, seconds)
        for pipe in self._some(links, breaks):
            network.reset(pipe)
        for pipe in self._some(links, breaks):
            network.half_open(pipe)
        self._world.engine.after(_TROUBLE_EVERY_S, self._next, None)

    def _some(self, links: list[Pipe], expected: float) -> list[Pipe]:
        count = int(expected) + (self._rng.random() < expected % 1.0)
        return self._rng.sample(links, min(count, len(links)))


def false_deaths() -> Iterator[Row]:
    """An hour in which links stall, are reset and become half-open, while nobody dies."""
    for share in _STALLED:
        world, _, _ = settled(0, _NODES)
        deaths = Deaths(world)
        world.watches.append(deaths)
        _Weather(world, share)
        world.run(_HOUR_S)
        how = f"{_NODES} nodes, one hour; each link stalled {share:.0%} of it, reset and half-open every 10 min"
        name = f"false deaths, {share:.0%} of links stalled"
        yield Row(name=name, measured=float(deaths.false), goal=0.0, unit="views", how=how)


def slander() -> Iterator[Row]:
    """Liars agree on a new victim every 2 s, and claim its death in all their names."""
    world, nodes, _ = settled(0, _NODES)
    rng = random.Random("liars")  # noqa: S311 - repeatable is what it has to be
    liars = rng.sample(nodes, _LIARS)
    for liar in liars:
        liar.lies = True
    plot = Plot([node for node in nodes if not node.lies], rng)
    for liar in liars:
        Liar(liar, Lie.SLANDER, plot, world.notary)
    deaths = Deaths(world)
    world.watches.append(deaths)
    world.run(_SLANDER_S)
    long = _held_long(deaths)
    longest = max(deaths.durations, default=0.0)
    how = f"{_LIARS} of {_NODES} lie, {_SLANDER_S:.0f} s; {deaths.false} views buried somebody, {longest:.1f} s at most"
    yield Row(name="buried for longer than one refutation", measured=float(long), goal=0.0, unit="views", how=how)


def _held_long(deaths: Deaths) -> int:
    ended = sum(1 for seconds in deaths.durations if seconds > _REFUTED_S)
    return ended + deaths.held_for(_REFUTED_S)


def halves(nodes: list[Node]) -> tuple[list[Node], list[Node]]:
    """Two sides of a split, neither of them next to itself in any order that matters."""
    return nodes[::2], nodes[1::2]
