"""Worlds to measure in: a mesh that has lived for long, and who sees whom otherwise than alive."""

from meshd_node.core.membership.effects import Member, MemberState
from meshd_protocol.ids import NodeId
from meshd_sim.checkers.watch import Checker
from meshd_sim.conditions import Conditions
from meshd_sim.world import Node, World

# Links come up and their first probes and rumours pass.
SETTLING_S = 30.0


class Dissent(Checker):
    """Who sees whom otherwise than alive: observer and member, and in what state."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.views: dict[tuple[NodeId, NodeId], MemberState] = {}
        self.deaths: dict[NodeId, int] = {}
        self.changed_at = 0.0

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""
        self.changed_at = self.world.now
        if member.state is MemberState.ALIVE:
            self.views.pop((node, member.node), None)
            return
        self.views[node, member.node] = member.state
        if member.state is MemberState.DEAD:
            self.deaths[member.node] = self.deaths.get(member.node, 0) + 1


def settled(seed: int, count: int, conditions: Conditions | None = None) -> tuple[World, list[Node], Dissent]:
    """A quiet mesh of so many nodes."""
    world = World(seed, conditions=conditions)
    dissent = Dissent(world)
    nodes = world.found(count)
    world.run(SETTLING_S)
    world.watches.append(dissent)
    return world, nodes, dissent
