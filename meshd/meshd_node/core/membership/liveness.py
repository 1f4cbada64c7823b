"""What the evidence about one member amounts to: alive, suspect or dead."""

import math
from dataclasses import dataclass

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import MemberState


@dataclass(slots=True)
class Liveness:
    """Evidence for and against one member's life.

    For: a session, or a newer version heard through others, which holds for a lease. Two nodes that can not reach
    each other are no evidence while others hear from both. Against: a session that ended, a dial that failed.
    """

    config: MembershipConfig
    connected: bool = False
    missed: bool = False
    vouched_until: float = -math.inf
    dead_at: float = math.inf

    def session_began(self) -> None:
        """Nothing proves life better; all that spoke against it is forgotten."""
        self.connected, self.missed = True, False
        self.vouched_until, self.dead_at = -math.inf, math.inf

    def session_ended(self, now: float, *, refused: bool) -> None:
        """Suspect it, for a short time if its address refused a redial."""
        self.connected = False
        self._suspect(now, refused=refused)

    def dial_failed(self, now: float, *, refused: bool) -> None:
        """Count this against a member unless others hear from it."""
        if not self.connected and now >= self.vouched_until:
            self._suspect(now, refused=refused)
        self.missed = not self.connected

    def vouch(self, now: float, lease_s: float) -> None:
        """A newer version came: its publisher lives, whether we reach it or not."""
        if self.connected:
            return
        self.vouched_until = now + lease_s
        self.dead_at = self.vouched_until + self.config.dead_after_s

    def verdict(self, now: float) -> MemberState:
        """ALIVE, SUSPECT or DEAD. Who was never tried is alive."""
        if self.connected or not self.missed or now < self.vouched_until:
            return MemberState.ALIVE
        return MemberState.SUSPECT if now < self.dead_at else MemberState.DEAD

    def next_change(self, now: float) -> float:
        """When the verdict will be another one though nothing happens."""
        if self.connected or not self.missed:
            return math.inf
        return min((at for at in (self.vouched_until, self.dead_at) if at > now), default=math.inf)

    def _suspect(self, now: float, *, refused: bool) -> None:
        patience = self.config.refused_after_s if refused else self.config.dead_after_s
        self.dead_at = min(self.dead_at, now + patience)
        self.missed = True
