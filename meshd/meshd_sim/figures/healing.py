"""How soon two halves of a mesh are one again, and what that costs."""

from collections.abc import Iterator
from statistics import median
from typing import Final

from meshd_sim.figures.meshes import settled
from meshd_sim.figures.rows import Row
from meshd_sim.figures.trouble import halves

# Nodes, worlds, goals in seconds and bytes.
_SPLITS: Final = ((128, 5, 8.0, 0.1e6), (1_024, 1, 25.0, 0.8e6))
_SPLIT_S: Final = 60.0
_FOLLOWED_S: Final = 240.0


def splits() -> Iterator[Row]:
    """Two halves hear nothing of each other for a minute; from the end of that until every view has all alive."""
    for nodes, worlds, seconds, size in _SPLITS:
        taken = [split(seed, nodes, _SPLIT_S) for seed in range(worlds)]
        times = [each[0] for each in taken]
        how = f"median of {len(taken)}, longest {max(times):.1f} s"
        yield Row(name=f"split of {nodes:,} healed", measured=median(times), goal=seconds, unit="s", how=how)
        sent = median(each[1] for each in taken)
        name = f"split of {nodes:,} healed, bytes a node"
        yield Row(name=name, measured=sent / 1e6, goal=size / 1e6, unit="MB", how="sent until all agreed")


def split(seed: int, nodes: int, lasts_s: float) -> tuple[float, float]:
    """Split a mesh in two for so long; return how long it then takes to be one again, and the bytes a node sends."""
    world, members, dissent = settled(seed, nodes)
    one, other = halves(members)
    sides = [node.node for node in one], [node.node for node in other]
    cuts = [world.network.cut(*sides), world.network.cut(*reversed(sides))]
    world.run(lasts_s)
    for cut in cuts:
        world.network.mend(cut)
    began, sent = world.now, world.network.traffic.total()
    # A view may be whole for a moment between two pieces of news: only what lasts counts.
    while world.now - began < _FOLLOWED_S and (dissent.views or world.now - dissent.changed_at < 1.0):
        world.run(0.25)
    taken = _FOLLOWED_S if dissent.views else dissent.changed_at - began
    return taken, (world.network.traffic.total() - sent) / nodes
