"""Invariants 10, 11 and 16: once it is quiet all see the same, the living alive and the gone gone, and stop talking."""

from meshd_node.core.members.effects import Member, MemberState
from meshd_node.core.members.events import VerifiedState
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Slot, Version
from meshd_sim.checkers.watch import Checker
from meshd_sim.membership import LIVING
from meshd_sim.world import Node, World


class Views(Checker):
    """Compares what each sees with what is."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.changed_at = 0.0
        # Since when each version is the newest of its slot.
        self._said: dict[tuple[NodeId, Slot], tuple[Version, float]] = {}

    def published(self, node: NodeId, state: VerifiedState) -> None:
        """A node said something of itself."""
        self._said[node, state.state.slot] = (state.state.version, self.world.now)

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""
        observer = self.world.nodes[node]
        if not observer.lies and not observer.revoked:
            self.changed_at = self.world.now

    def unsettled(self, fresh_s: float) -> str:
        """Some difference between what a node sees and what is, "" if there is none.

        What was said within the last `fresh_s` need not have reached everybody.
        """
        for node in self.world.honest():
            for other in self.world.nodes.values():
                wrong = "" if other.lies or other.revoked else self._wrong(node, other, fresh_s)
                if wrong:
                    return f"{node.name} {wrong}"
        return ""

    def _wrong(self, node: Node, other: Node, fresh_s: float) -> str:
        assert node.host is not None, "it runs"
        machine = node.host.machine
        member = machine.member(other.node)
        if not other.running or other.phase is not other.phase.ALIVE:
            gone = member is None or member.state not in LIVING
            return "" if gone else f"sees {other.name} {_state(member)}, which is gone"
        if member is None or member.state is not MemberState.ALIVE:
            return f"sees {other.name} {_state(member)}, which lives"
        for slot in Slot:
            version, since = self._said[other.node, slot]
            if machine.version(other.node, slot) != version and since < self.world.now - fresh_s:
                return f"has no newest {slot.name.lower()} of {other.name}"
        return ""


def _state(member: Member | None) -> str:
    return "not at all" if member is None else member.state.value
