"""How patient membership is. Names end in their unit."""

from dataclasses import dataclass, fields

from meshd_node.errors import ConfigError
from meshd_protocol.limits import MEMBERS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipConfig:
    """The defaults hold for 1 to 500 nodes in a full mesh of connections."""

    # One digest exchange with one random peer. What a lost message or a full queue left out is repaired by this.
    exchange_s: float = 10.0
    # A node signs its offer anew every max(refresh_s, members * refresh_per_member_s): at 500 members the mesh makes
    # ten new versions a second, each of which costs every node one verification of 107 us.
    refresh_s: float = 5.0
    refresh_per_member_s: float = 0.1
    # A newer version heard through others proves life for this many refreshes, though we can not reach its publisher.
    lease_refreshes: int = 3
    # Without a session and without a newer version: how long a member stays suspect before it is dead.
    dead_after_s: float = 10.0
    # The same where a redial was refused: nobody listens there, all that can still come is a restart.
    refused_after_s: float = 1.0
    # Redials back off from `dial_first_s` by doubling to `dial_last_s`, each times a random 0.5 to 1.
    dial_first_s: float = 0.25
    dial_last_s: float = 30.0
    dials_max: int = 16
    # Of two nodes that learn of each other at the same time the one with the larger id waits for the other's dial.
    courtesy_s: float = 0.25
    # A new state goes from each relay to at most this many random peers; its publisher sends it to all of its own.
    relays_max: int = 8
    members_max: int = MEMBERS_MAX
    # Dead and left members are remembered for a day, so that an old copy of their state does not revive them.
    tombstone_s: float = 86_400.0
    tombstones_max: int = 1_000

    def __post_init__(self) -> None:
        """Refuse what can not work."""
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ConfigError(f"membership.{field.name} must be above 0")
        if self.dial_last_s < self.dial_first_s:
            raise ConfigError("membership.dial_last_s must not be below membership.dial_first_s")
        if self.members_max > MEMBERS_MAX:
            raise ConfigError(f"membership.members_max must not be above {MEMBERS_MAX}")
