"""How soon a join and a crash are known to all."""

import random
from collections.abc import Iterator
from statistics import median
from typing import Final

from meshd_node.core.membership.effects import Member, MemberState
from meshd_protocol.ids import NodeId
from meshd_sim.checkers.watch import Checker
from meshd_sim.figures.meshes import settled
from meshd_sim.figures.rows import Row
from meshd_sim.world import Node, World

# Nodes, worlds, crashes in each, goal in seconds.
_CRASHES: Final = ((16, 15, 2, 6.0), (128, 5, 4, 8.6), (1_024, 1, 7, 11.8), (4_096, 1, 3, 13.2))
_CRASH_FOLLOWED_S: Final = 60.0
_JOIN_NODES: Final = 1_000
_JOINS: Final = 7
_JOIN_FOLLOWED_S: Final = 20.0
_JOIN_KNOWN_BY: Final = 0.99


class _Sightings(Checker):
    """When each node first saw one member in one state."""

    def __init__(self, world: World, member: Node, state: MemberState) -> None:
        super().__init__(world)
        self._member = member
        self._state = state
        self.at: dict[NodeId, float] = {}

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""
        if member.node == self._member.node:
            if member.state is self._state:
                self.at.setdefault(node, self.world.now)
            else:
                self.at.pop(node, None)


def crashes() -> Iterator[Row]:
    """A machine goes dark, without a word: from that moment until the last of the others holds it dead."""
    for nodes, worlds, each, goal in _CRASHES:
        taken = [seconds for seed in range(worlds) for seconds in _crashes_of_one(seed, nodes, each)]
        how = f"median of {len(taken)}, longest {max(taken):.1f} s, silence"
        yield Row(name=f"crash known to all of {nodes:,}", measured=median(taken), goal=goal, unit="s", how=how)


def _crashes_of_one(seed: int, count: int, crashes: int) -> Iterator[float]:
    world, nodes, _ = settled(seed, count)
    rng = random.Random(f"{seed}/crashes")  # noqa: S311 - repeatable is what it has to be
    for victim in rng.sample(nodes, crashes):
        world.run(rng.uniform(0.0, 2.0))
        seen = _Sightings(world, victim, MemberState.DEAD)
        world.watches.append(seen)
        began = world.now
        world.crash(victim, machine=True)
        living = len(world.honest())
        while len(seen.at) < living and world.now - began < _CRASH_FOLLOWED_S:
            world.run(1.0)
        world.watches.remove(seen)
        yield max(seen.at.values()) - began if len(seen.at) == living else _CRASH_FOLLOWED_S


def joins() -> Iterator[Row]:
    """A node starts that nobody knows: from that moment until 99 % of the others see it alive."""
    taken: list[float] = []
    backs: list[float] = []
    world, nodes, _ = settled(0, _JOIN_NODES)
    rng = random.Random("joins")  # noqa: S311 - repeatable is what it has to be
    for _ in range(_JOINS):
        joiner = world.add([node.address for node in rng.sample(nodes, 3)])
        seen = _Sightings(world, joiner, MemberState.ALIVE)
        world.watches.append(seen)
        began, living = world.now, len(world.honest())
        world.start(joiner)
        taken.append(_known(world, seen, joiner, began, living))
        assert joiner.host is not None, "it runs"
        while len(joiner.host.machine.members()) <= _JOIN_KNOWN_BY * living and world.now - began < _JOIN_FOLLOWED_S:
            world.run(0.1)
        backs.append(world.now - began)
        world.watches.remove(seen)
    how = f"median of {len(taken)}, longest {max(taken):.1f} s; it knows 99 % after {median(backs):.1f} s"
    yield Row(name="join known to 99 % of 1,000", measured=median(taken), goal=2.0, unit="s", how=how)


def _known(world: World, seen: _Sightings, joiner: Node, began: float, living: int) -> float:
    needed = int(_JOIN_KNOWN_BY * living)
    while world.now - began < _JOIN_FOLLOWED_S:
        world.run(0.1)
        others = sorted(at for node, at in seen.at.items() if node != joiner.node)
        if len(others) >= needed:
            return others[needed - 1] - began
    return _JOIN_FOLLOWED_S
