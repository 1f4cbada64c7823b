"""Invariant 6: whoever knows that a node is revoked has nothing to do with it, and all come to know."""

from collections.abc import Callable

from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.core.membership.events import VerifiedRevocation
from meshd_protocol.ids import NodeId
from meshd_sim.checkers.broken import Broken
from meshd_sim.checkers.watch import Checker
from meshd_sim.world import Node, World


class Revocations(Checker):
    """Who knows of which revocation."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        # By node and life: a lost disk may forget.
        self._known: dict[tuple[NodeId, int], dict[NodeId, None]] = {}

    def revoked(self, node: NodeId, revocations: list[VerifiedRevocation]) -> None:
        """A node learned of revocations."""
        known = self._known.setdefault(self._life(node), {})
        known.update((NodeId(each.revocation.node), None) for each in revocations)

    def changed(self, node: NodeId, member: Member) -> None:
        """What is known is not forgotten."""
        if member.state is not MemberState.REVOKED and member.node in self._known.get(self._life(node), ()):
            raise Broken(
                6, f"{self.name(node)} sees {self.name(member.node)} {member.state.value}, though it is revoked"
            )

    def unsettled(self) -> str:
        """Who does not know yet, or still has a session with a revoked node; "" if nobody."""
        honest = self.world.honest()
        # A revocation that only one node knew, which is down, is nobody's fault.
        revoked = [node for node in self.world.nodes.values() if node.revoked and any(map(_knows(node), honest))]
        for node in honest:
            for other in revoked:
                wrong = self._wrong(node, other)
                if wrong:
                    return wrong
        return ""

    def _wrong(self, node: Node, other: Node) -> str:
        assert node.host is not None, "it runs"
        assert node.process is not None, "it runs"
        if node.process.connected(other.node):
            return f"{node.name} has a session with {other.name}, which is revoked"
        member = node.host.machine.member(other.node)
        if member is not None and member.state is not MemberState.REVOKED:
            return f"{node.name} sees {other.name} {member.state.value}, though it is revoked"
        return ""

    def _life(self, node: NodeId) -> tuple[NodeId, int]:
        return node, self.world.nodes[node].lives


def _knows(revoked: Node) -> Callable[[Node], bool]:
    return lambda node: node.host is not None and node.host.machine.revoked(revoked.node)
