"""Who is suspected, by whom, and for how long until it counts as dead.

The times are Lifeguard's (arXiv:1707.00788): with every observer that confirms a suspicion its time-out falls, from
`suspicion_spread` times the shortest to the shortest. That several observers must agree is Rapid's (arXiv:1803.03620).
"""

import math
from typing import Final

from msgspec import Struct, field

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.deadlines import Deadlines
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Claim, Verdict, Version

# A claim may outrun the state that it names, never by more: a lie about versions that no publisher will ever reach
# could not be refuted.
VERSIONS_AHEAD_MAX: Final = 16


class Suspicion(Struct, gc=False):
    """Why a member is suspected. `version` is the newest that an accuser named: only a newer one refutes them all.

    `opened`: when the first accusation came. `began`: when the time-out began, later if the accused answered us since.
    """

    version: Version
    opened: float
    began: float
    accusers: dict[NodeId, Version] = field(default_factory=dict)
    buriers: dict[NodeId, Version] = field(default_factory=dict)
    refused_at: float = math.inf


class Suspicions:
    """All suspicions, each with the time at which it becomes a death."""

    def __init__(self, config: MembershipConfig) -> None:
        self._config = config
        self._open: dict[NodeId, Suspicion] = {}
        self._deadlines = Deadlines()

    def get(self, node: NodeId) -> Suspicion | None:
        """The suspicion of one member."""
        return self._open.get(node)

    def holds(self, accuser: NodeId, accused: NodeId, version: Version, verdict: Verdict) -> bool:
        """Whether this accuser's word is known already."""
        suspicion = self._open.get(accused)
        if suspicion is None:
            return False
        words = suspicion.buriers if verdict is Verdict.DEAD else suspicion.accusers
        held = words.get(accuser)
        return held is not None and held >= version

    def count(self, claim: Claim, members: int, now: float, *, observer: bool) -> bool:
        """Count a believable claim; return whether it says anything that others need to hear.

        `observer`: in this node's own view the accuser observes the accused. Others' claims of death only confirm.
        """
        suspicion = self._opened(claim.accused, claim.version, now)
        suspicion.version = max(suspicion.version, claim.version)
        news = False
        if claim.accuser not in suspicion.accusers:
            news = len(suspicion.accusers) <= self._confirmations(members)
            suspicion.accusers[claim.accuser] = claim.version
        if claim.verdict is Verdict.DEAD and observer and claim.accuser not in suspicion.buriers:
            news |= len(suspicion.buriers) < self._quorum(members)
            suspicion.buriers[claim.accuser] = claim.version
        self._schedule(claim.accused, suspicion, members)
        return news

    def witness(self, observer: NodeId, node: NodeId, version: Version, members: int, now: float) -> bool:
        """Count what this node itself has seen; return whether others need to hear it."""
        suspicion = self._opened(node, version, now)
        news = observer not in suspicion.accusers and len(suspicion.accusers) <= self._confirmations(members)
        suspicion.accusers[observer] = max(version, suspicion.accusers.get(observer, version))
        self._schedule(node, suspicion, members)
        return news

    def refused(self, node: NodeId, members: int, now: float) -> None:
        """A suspect's address says that nobody listens there. Only what this node itself was told shortens its wait."""
        suspicion = self._open[node]
        suspicion.refused_at = min(suspicion.refused_at, now)
        self._schedule(node, suspicion, members)

    def answered(self, node: NodeId, members: int, now: float) -> None:
        """A suspect has answered this node: its time begins again, and the observers' word still counts."""
        suspicion = self._open.get(node)
        if suspicion is not None:
            suspicion.began, suspicion.refused_at = now, math.inf
            self._schedule(node, suspicion, members)

    def agreed(self, suspicion: Suspicion, members: int) -> bool:
        """Whether so many observers say that it is dead that nobody needs another one's word."""
        return len(suspicion.buriers) >= self._quorum(members)

    def drop(self, node: NodeId) -> None:
        """It is refuted, or no matter any more."""
        if self._open.pop(node, None) is not None:
            self._deadlines.set(node, math.inf)

    def postpone(self, now: float, until: float) -> None:
        """Leave open until then who would be due now."""
        for node in self._deadlines.pop_due(now):
            self._deadlines.set(node, until)

    def pop_due(self, now: float) -> list[tuple[NodeId, Suspicion]]:
        """Take out all whose time is over, in order."""
        return [(node, self._open.pop(node)) for node in self._deadlines.pop_due(now)]

    def next_at(self) -> float:
        """When the next one's time is over."""
        return self._deadlines.next()

    def _opened(self, node: NodeId, version: Version, now: float) -> Suspicion:
        suspicion = self._open.get(node)
        if suspicion is None:
            suspicion = self._open[node] = Suspicion(version, now, now)
        return suspicion

    def _schedule(self, node: NodeId, suspicion: Suspicion, members: int) -> None:
        at = suspicion.began + self._timeout_s(len(suspicion.accusers) - 1, members)
        at = min(at, suspicion.refused_at + self._config.refused_s)
        if self.agreed(suspicion, members):
            # Liars that agree are as fast as they like; the accused has this long to refute them.
            at = min(at, suspicion.opened + self._config.refute_s)
        self._deadlines.set(node, at)

    def _timeout_s(self, confirmed: int, members: int) -> float:
        shortest = self._config.suspicion * max(1.0, math.log10(members)) * self._config.probe_s
        possible = self._confirmations(members)
        if confirmed >= possible:
            return shortest
        longest = self._config.suspicion_spread * shortest
        return longest - (longest - shortest) * math.log(max(confirmed, 0) + 1) / math.log(possible + 1)

    def _confirmations(self, members: int) -> int:
        """How many may be asked for in a mesh so small: of those besides the accused and its first accuser."""
        return max(0, min(self._config.confirmations, members - 2))

    def _quorum(self, members: int) -> int:
        """Never one alone: in a mesh of up to three each node waits for its own timer."""
        return max(2, min(self._config.claims, members - 2))
