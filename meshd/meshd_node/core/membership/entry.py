"""All that this node holds of one member: its newest states, and the evidence of its life."""

from dataclasses import dataclass

from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.core.membership.events import VerifiedState
from meshd_node.core.membership.liveness import Liveness
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Core, Offer, Phase, Slot, Version


@dataclass(slots=True)
class Entry:
    """One member. There is no entry without a `core`: only a certificate makes a member."""

    core: VerifiedState
    liveness: Liveness
    offer: VerifiedState | None = None
    said: Member | None = None

    @property
    def node(self) -> NodeId:
        """Whose entry this is."""
        return NodeId(self.core.state.publisher)

    @property
    def version(self) -> Version:
        """The version of its newest state."""
        return max(held.state.version for held in self.held())

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it says that it listens."""
        return tuple(self._core.addresses)

    def held(self) -> list[VerifiedState]:
        """The newest state of each slot, `core` first."""
        return [self.core] if self.offer is None else [self.core, self.offer]

    def slot(self, slot: Slot) -> VerifiedState | None:
        """The newest state of one slot."""
        return self.core if slot is Slot.CORE else self.offer

    def accept(self, state: VerifiedState) -> bool:
        """Hold a state if it is newer. Of two with one version, which only a liar signs, the first stays."""
        held = self.slot(state.state.slot)
        if held is not None and state.state.version <= held.state.version:
            return False
        if state.state.slot is Slot.CORE:
            self.core = state
        else:
            self.offer = state
        return True

    def current_offer(self) -> Offer | None:
        """What it lends; nothing while all we hold is an offer that it made before its last restart."""
        if self.offer is None or self.offer.state.version.epoch < self.core.state.version.epoch:
            return None
        assert isinstance(self.offer.content, Offer)
        return self.offer.content

    def state(self, now: float) -> MemberState:
        """What to call it now: its own word where it has left, else the evidence, else its own word."""
        offer = self.current_offer()
        phase = Phase.ALIVE if offer is None else offer.phase
        if phase is Phase.LEFT:
            return MemberState.LEFT
        verdict = self.liveness.verdict(now)
        return MemberState.DRAINING if (verdict, phase) == (MemberState.ALIVE, Phase.DRAINING) else verdict

    def say(self, now: float) -> tuple[Member, bool]:
        """The member as it is now, and whether more than its version differs from what was last said."""
        before, state, offer = self.said, self.state(now), self.current_offer()
        since = before.since if before is not None and before.state is state else now
        member = Member(self.node, state, self.core.certified, self._core, offer, self.version, since)
        self.said = member
        return member, before is None or (before.state, before.core, before.offer) != (state, self._core, offer)

    @property
    def _core(self) -> Core:
        assert isinstance(self.core.content, Core)
        return self.core.content
