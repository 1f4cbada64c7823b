"""What must happen in some worlds, or the worlds are too tame to prove anything."""

from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.core.membership.events import VerifiedClaim, VerifiedRevocation
from meshd_protocol.ids import NodeId
from meshd_sim.checkers.watch import Checker
from meshd_sim.world import World


class Sometimes(Checker):
    """Counts what happened."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.seen: dict[str, int] = {}
        self._states: dict[tuple[NodeId, NodeId], Member] = {}

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""
        before = self._states.get((node, member.node))
        self._states[node, member.node] = member
        if before is not None and before.state is not member.state:
            self._turned(before, member)

    def _turned(self, before: Member, after: Member) -> None:
        match before.state, after.state:
            case MemberState.SUSPECT, MemberState.ALIVE:
                self.count("suspicion refuted" if after.version > before.version else "suspicion taken back")
            case MemberState.DEAD, MemberState.ALIVE:
                again = after.version.epoch > before.version.epoch
                self.count("back after a restart" if again else "back from the dead")
            case _, MemberState.SUSPECT:
                self.count("suspected")
            case MemberState.SUSPECT, MemberState.DEAD:
                self.count("buried")
            case _, MemberState.DEAD:
                self.count("buried unsuspected")
            case _, MemberState.LEFT:
                self.count("left")
            case _, MemberState.REVOKED:
                self.count("revoked")

    def claimed(self, claim: VerifiedClaim) -> None:
        """An honest node accuses another."""
        self.count(f"claimed {claim.claim.verdict.name.lower()}")

    def revoked(self, node: NodeId, revocations: list[VerifiedRevocation]) -> None:
        """A node learned of revocations."""
        self.count("revocation learned")

    def count(self, what: str) -> None:
        """It happened."""
        self.seen[what] = self.seen.get(what, 0) + 1
