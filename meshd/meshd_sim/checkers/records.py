"""Invariants 8 and 9: no version twice, and nobody holds what its publisher did not say."""

from typing import Final

from meshd_node.core.membership.effects import Member
from meshd_node.core.membership.events import VerifiedState
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Slot, Version
from meshd_sim.checkers.broken import Broken
from meshd_sim.checkers.watch import Checker
from meshd_sim.world import World

# Views looked at each time, of all.
_SAMPLE: Final = 2


class Records(Checker):
    """All that honest nodes ever said. A node that lost its disk may repeat a version: it knows of none."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._said: dict[tuple[NodeId, Slot, Version], bytes] = {}
        self._newest: dict[NodeId, Version] = {}
        self._rng = world.engine.stream("records")

    def published(self, node: NodeId, state: VerifiedState) -> None:
        """A version is said once."""
        version = state.state.version
        key = (node, state.state.slot, version)
        before = self._said.setdefault(key, state.signed.body)
        if before != state.signed.body and not self.world.nodes[node].forgot:
            raise Broken(8, f"{self.name(node)} said two things in version {version.epoch}.{version.sequence}")
        self._newest[node] = max(version, self._newest.get(node, version))

    def changed(self, node: NodeId, member: Member) -> None:
        """A mark names a version that was said."""
        self._check(node, member)

    def look(self) -> None:
        """Look into some views whole."""
        running = [each for each in self.world.nodes.values() if each.host is not None]
        for each in self._rng.sample(running, min(_SAMPLE, len(running))):
            if each.host is not None:
                for member in each.host.machine.members():
                    self._check(each.node, member)

    def _check(self, node: NodeId, member: Member) -> None:
        publisher = self.world.nodes.get(member.node)
        if publisher is None or publisher.lies:
            return
        newest = self._newest.get(member.node)
        if newest is None or member.version > newest:
            version = member.version
            held = f"version {version.epoch}.{version.sequence} of {self.name(member.node)}"
            raise Broken(9, f"{self.name(node)} holds {held}, who never said it")
