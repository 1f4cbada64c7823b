"""Invariant 12: nobody who answers is held dead, as long as fewer lie than the claims that are believed at once."""

from meshd_node.core.membership.effects import Member, MemberState
from meshd_protocol.ids import NodeId
from meshd_sim.checkers.broken import Broken
from meshd_sim.checkers.watch import Checker
from meshd_sim.world import World


class Deaths(Checker):
    """Who is held dead by whom, since when, though it lives.

    `strict`: nothing happens in this world that kills or separates nodes, so nobody may be held dead at all.
    """

    def __init__(self, world: World, *, strict: bool = False) -> None:
        super().__init__(world)
        self._strict = strict
        self._buried: dict[tuple[NodeId, NodeId], float] = {}
        self.false = 0
        self.durations: list[float] = []

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""
        key = (node, member.node)
        if member.state is MemberState.DEAD:
            if self._lives(member.node) and self._lives(node):
                self._bury(key)
        elif (since := self._buried.pop(key, None)) is not None:
            self.durations.append(self.world.now - since)

    def held_for(self, seconds: float) -> int:
        """How many views have somebody buried for longer than this."""
        return sum(1 for since in self._buried.values() if self.world.now - since > seconds)

    def _bury(self, key: tuple[NodeId, NodeId]) -> None:
        self.false += 1
        if self._strict:
            raise Broken(12, f"{self.name(key[0])} holds {self.name(key[1])} dead, which lives")
        self._buried[key] = self.world.now

    def _lives(self, node: NodeId) -> bool:
        known = self.world.nodes.get(node)
        return known is not None and known.running and not known.lies and not known.revoked
