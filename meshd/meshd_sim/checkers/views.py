"""Invariants 10, 11 and 16: once it is quiet all see the same, the living alive and the gone gone, and stop talking."""

from collections import deque
from typing import Final

from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.core.membership.events import VerifiedState
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Slot, Version
from meshd_sim.checkers.watch import Checker
from meshd_sim.membership import LIVING
from meshd_sim.world import Node, World

_REMEMBERED: Final = 64


class Views(Checker):
    """Compares what each sees with what is."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.changed_at = 0.0
        # When each version was said, of each slot the newest last; the oldest are forgotten.
        self._said: dict[tuple[NodeId, Slot], deque[tuple[Version, float]]] = {}

    def published(self, node: NodeId, state: VerifiedState) -> None:
        """A node said something of itself."""
        said = self._said.setdefault((node, state.state.slot), deque(maxlen=_REMEMBERED))
        said.append((state.state.version, self.world.now))

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""
        observer = self.world.nodes[node]
        if not observer.lies and not observer.revoked:
            self.changed_at = self.world.now

    def unsettled(self, fresh_s: float, *, doubts: bool) -> str:
        """Some difference between what a node sees and what is, "" if there is none.

        What was said within the last `fresh_s` need not have reached everybody. With `doubts` a suspect is no
        difference: liars make some again and again.
        """
        alive = LIVING if doubts else frozenset({MemberState.ALIVE})
        for node in self.world.honest():
            for other in self.world.nodes.values():
                wrong = "" if other.lies or other.revoked else self._wrong(node, other, alive, fresh_s)
                if wrong:
                    return f"{node.name} {wrong}"
        return ""

    def _wrong(self, node: Node, other: Node, alive: frozenset[MemberState], fresh_s: float) -> str:
        assert node.host is not None, "it runs"
        machine = node.host.machine
        member = machine.member(other.node)
        if not other.running or other.phase is not other.phase.ALIVE:
            gone = member is None or member.state not in LIVING
            return "" if gone else f"sees {other.name} {_state(member)}, which is gone"
        if member is None or member.state not in alive:
            return f"sees {other.name} {_state(member)}, which lives"
        for slot in Slot:
            held, said = machine.version(other.node, slot), self._said[other.node, slot]
            old = [version for version, at in said if at < self.world.now - fresh_s]
            # Whose disk was lost may have begun anew, below what it said in a life that all have forgotten.
            if old and held != said[-1][0] and (held is None or held < old[-1]):
                return f"has no {slot.name.lower()} of {other.name} that is less than {fresh_s:.0f} s old"
        return ""


def _state(member: Member | None) -> str:
    return "not at all" if member is None else member.state.value
