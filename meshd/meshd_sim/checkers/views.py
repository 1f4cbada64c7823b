"""Invariants 10, 11 and 16: once it is quiet all see the same, the living alive and the gone gone, and stop talking."""

import math
from collections import deque
from typing import Final

from meshd_node.core.membership.effects import LIVING, Member, MemberState
from meshd_node.core.membership.events import VerifiedState
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Slot, Version
from meshd_sim.checkers.watch import Checker
from meshd_sim.world import Node, World

_REMEMBERED: Final = 64
_ALIVE: Final = frozenset({MemberState.ALIVE})


class Views(Checker):
    """Compares what each sees with what is."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.changed_at = 0.0
        # When each version was said, of each slot the newest last; the oldest are forgotten.
        self._said: dict[tuple[NodeId, Slot], deque[tuple[Version, float]]] = {}
        # Since when each view, of one life of its node, has had each member among the living.
        self._living_since: dict[tuple[NodeId, int, NodeId], float] = {}

    def published(self, node: NodeId, state: VerifiedState) -> None:
        """A node said something of itself."""
        said = self._said.setdefault((node, state.state.slot), deque(maxlen=_REMEMBERED))
        said.append((state.state.version, self.world.now))

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""
        observer = self.world.nodes[node]
        view = (node, observer.lives, member.node)
        if member.state in LIVING:
            self._living_since.setdefault(view, self.world.now)
        else:
            self._living_since.pop(view, None)
        if not observer.lies and not observer.revoked:
            self.changed_at = self.world.now

    def unsettled(self, fresh_s: float, *, doubts: bool) -> str:
        """Some difference between what a node sees and what is, "" if there is none.

        What was said within the last `fresh_s` need not have reached everybody. With `doubts` a suspect is no
        difference: liars make some again and again. Nor is it one then if a view has had somebody who is gone among the
        living for no longer than `fresh_s`: to whoever has forgotten it a liar can tell its last words at any time, and
        only its silence shows what they are worth.
        """
        for node in self.world.honest():
            for other in self.world.nodes.values():
                wrong = "" if other.lies or other.revoked else self._wrong(node, other, fresh_s, doubts=doubts)
                if wrong:
                    return f"{node.name} {wrong}"
        return ""

    def _wrong(self, node: Node, other: Node, fresh_s: float, *, doubts: bool) -> str:
        assert node.host is not None, "it runs"
        machine = node.host.machine
        member = machine.member(other.node)
        if not other.running or other.phase is not other.phase.ALIVE:
            gone = member is None or member.state not in LIVING
            if gone or (doubts and self.world.now - self._had_since(node, other) <= fresh_s):
                return ""
            return f"sees {other.name} {_state(member)}, which is gone"
        if member is None or member.state not in (LIVING if doubts else _ALIVE):
            return f"sees {other.name} {_state(member)}, which lives"
        for slot in Slot:
            held, said = machine.version(other.node, slot), self._said[other.node, slot]
            old = [version for version, at in said if at < self.world.now - fresh_s]
            # Whose disk was lost may have begun anew, below what it said in a life that all have forgotten.
            if old and held != said[-1][0] and (held is None or held < old[-1]):
                return f"has no {slot.name.lower()} of {other.name} that is less than {fresh_s:.0f} s old"
        return ""

    def _had_since(self, node: Node, other: Node) -> float:
        return self._living_since.get((node.node, node.lives, other.node), -math.inf)


def _state(member: Member | None) -> str:
    return "not at all" if member is None else member.state.value
