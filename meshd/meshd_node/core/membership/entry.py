"""All that this node holds of one member: its newest states, and what its observers made of it."""

from typing import Final

from msgspec import Struct

from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.core.membership.events import VerifiedState
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import Load
from meshd_protocol.records import Core, Offer, Phase, Slot, Version

NEVER: Final = Version(0, 0)
_PHASES: Final = {
    Phase.ALIVE: MemberState.ALIVE,
    Phase.DRAINING: MemberState.DRAINING,
    Phase.LEFT: MemberState.LEFT,
}


class Entry(Struct, gc=False):
    """One member. There is no entry without a `core`: only a certificate makes a member.

    `mark` is what others' evidence says of it: ALIVE, or SUSPECT or DEAD of versions up to `marked`, or REVOKED. It
    keeps its `state` since `since`; a newer version of it last came at `heard_at`.
    """

    core: VerifiedState
    since: float
    heard_at: float
    offer: VerifiedState | None = None
    mark: MemberState = MemberState.ALIVE
    marked: Version = NEVER
    load: Load | None = None

    @property
    def node(self) -> NodeId:
        """Whose entry this is."""
        return self.core.state.publisher

    @property
    def version(self) -> Version:
        """The version of its newest state."""
        core = self.core.state.version
        if self.offer is None:
            return core
        return max(core, self.offer.state.version)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it says that it listens."""
        return tuple(self._core.addresses)

    @property
    def state(self) -> MemberState:
        """What to call it: revoked, else its own word where it has left, else the evidence, else its own word."""
        mark, phase = self.mark, self._phase
        if mark is MemberState.REVOKED or (mark is not MemberState.ALIVE and phase is not Phase.LEFT):
            return mark
        return _PHASES[phase]

    @property
    def living(self) -> bool:
        """Whether it counts as one of the mesh now: suspects do, the dead, left and revoked do not."""
        mark = self.mark
        return (mark is MemberState.ALIVE or mark is MemberState.SUSPECT) and self._phase is not Phase.LEFT

    def held(self) -> tuple[VerifiedState, ...]:
        """The newest state of each slot, `core` first."""
        return (self.core,) if self.offer is None else (self.core, self.offer)

    def slot(self, slot: int) -> VerifiedState | None:
        """The newest state of one slot."""
        if slot == Slot.CORE:
            return self.core
        return self.offer if slot == Slot.OFFER else None

    def put(self, state: VerifiedState) -> None:
        """Hold this state in its slot."""
        if state.state.slot is Slot.CORE:
            self.core = state
        else:
            self.offer = state

    def current_offer(self) -> Offer | None:
        """What it lends; nothing while all we hold is an offer that it made before its last restart."""
        if self.offer is None or self.offer.state.version.epoch < self.core.state.version.epoch:
            return None
        assert isinstance(self.offer.content, Offer)
        return self.offer.content

    def member(self) -> Member:
        """The member as it is now, for those who ask."""
        return Member(
            self.node,
            self.state,
            self.core.certified,
            self._core,
            self.current_offer(),
            self.version,
            self.since,
            self.load,
        )

    @property
    def _core(self) -> Core:
        assert isinstance(self.core.content, Core)
        return self.core.content

    @property
    def _phase(self) -> Phase:
        offer = self.current_offer()
        return Phase.ALIVE if offer is None else offer.phase
