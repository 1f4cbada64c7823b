"""How patient membership is, and how much it may say. Names end in their unit."""

from dataclasses import dataclass, fields

from meshd_node.errors import ConfigError
from meshd_protocol.limits import MEMBERS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipConfig:
    """The defaults hold for 1 to 10,000 nodes."""

    # --- detection ---
    # One probe of one of the nodes that this one observes, round robin; the others observe it in the same seconds.
    probe_s: float = 1.0
    probe_timeout_s: float = 0.5
    # How many other observers of a silent node are asked to probe it, for what is left of the period.
    indirect: int = 3
    # A node is observed by its predecessors on so many hash rings (Rapid's topology), and only they may accuse it.
    rings: int = 10
    # Suspicion lasts between min = suspicion * max(1, log10(members)) * probe_s and suspicion_spread * min, less with
    # every further observer that confirms it, and min from the third on (Lifeguard).
    suspicion: float = 3.0
    suspicion_spread: float = 6.0
    confirmations: int = 3
    # So many distinct observers' claims of a death are believed at once; fewer only in a mesh too small for them.
    claims: int = 4
    # Not sooner than this after the first accusation: what the accused needs to hear of it and to refute it.
    refute_s: float = 2.0
    # A suspect whose address refused this node itself: all that can still come is a restart.
    refused_s: float = 1.0
    # A node refutes what is said of it at most once in this time, however often somebody says it.
    refute_pause_s: float = 0.5
    # Probes that a node makes for others at the same time.
    errands_max: int = 64
    # Lifeguard's local health: 0 to this; probe interval and time-out are multiplied by one more than it.
    health_max: int = 8

    # --- dissemination ---
    # A rumour goes to `fanout` peers a tick, spread_factor * ceil(log10(members + 1)) times in all: of 100 members that
    # join at once, all are known to all in 19 of 20 cases before any repair. A refresh that somebody misses is no loss.
    fanout: int = 3
    spread_factor: int = 6
    refresh_spread_factor: int = 3
    # Suspicions, revocations, joins and leaves do not wait for refreshed states.
    urgent_tick_s: float = 0.2
    tick_s: float = 1.0
    # What one tick may carry to one neighbour: 3 neighbours and 5 ticks a second make 21 KB/s at most.
    rumour_bytes: int = 1_400
    # What a digest made this node ask of one peer is not asked of another before this.
    want_s: float = 0.5
    repair_s: float = 10.0
    # A node signs its offer anew every refresh_s, or members * refresh_per_member_s if that is more: three new versions
    # a second in the whole mesh.
    refresh_s: float = 60.0
    refresh_per_member_s: float = 0.3
    # Whoever is not heard of for so many refreshes is dead, though nobody who observes it said so.
    lease_refreshes: int = 3

    # --- links ---
    # Redials back off from `dial_first_s` by doubling to `dial_last_s`, each times a random 0.5 to 1.
    dial_first_s: float = 0.25
    dial_last_s: float = 30.0
    dials_max: int = 16
    # Of two nodes that learn of each other at the same time the one with the larger id waits for the other's dial.
    courtesy_s: float = 0.25

    # --- bounds ---
    # What a seed hands to a newcomer at once; the rest comes by repair.
    introductions: int = 16
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
        if self.probe_timeout_s >= self.probe_s:
            raise ConfigError("membership.probe_timeout_s must be below membership.probe_s")
        if self.members_max > MEMBERS_MAX:
            raise ConfigError(f"membership.members_max must not be above {MEMBERS_MAX}")
