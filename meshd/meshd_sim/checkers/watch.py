"""What every checker of memberships hears; each overrides what concerns it."""

from meshd_node.core.membership.effects import Member
from meshd_node.core.membership.events import VerifiedClaim, VerifiedRevocation, VerifiedState
from meshd_protocol.ids import NodeId
from meshd_sim.world import World


class Checker:
    """Told of everything as it happens; asked at intervals, and when it should be quiet."""

    def __init__(self, world: World) -> None:
        self.world = world

    def published(self, node: NodeId, state: VerifiedState) -> None:
        """A node said something of itself."""

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""

    def claimed(self, claim: VerifiedClaim) -> None:
        """An honest node accuses another."""

    def revoked(self, node: NodeId, revocations: list[VerifiedRevocation]) -> None:
        """A node learned of revocations."""

    def look(self) -> None:
        """Look at the world as it is. Called every few seconds: it must not cost much."""

    def name(self, node: NodeId) -> str:
        """What people call a node."""
        return self.world.name(node)
