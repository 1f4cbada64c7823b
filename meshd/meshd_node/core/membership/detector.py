"""The failure detector: whom this node probes, whom it suspects, and whose accusations it believes.

SWIM's periods, aimed by hash rings; Lifeguard's patience; and nobody dies by hearsay. Spec: 10-membership.md.
"""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias, assert_never

from meshd_node.core.allowance import Allowance
from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Effect, MakeClaim, MemberState, PublishAnew, Send
from meshd_node.core.membership.entry import Entry
from meshd_node.core.membership.events import VerifiedClaim
from meshd_node.core.membership.neighbours import Neighbours
from meshd_node.core.membership.prober import Prober
from meshd_node.core.membership.rings import Rings
from meshd_node.core.membership.suspicion import VERSIONS_AHEAD_MAX, Suspicion, Suspicions
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import Load, Probe, ProbeAck, ProbeReport, ProbeRequest, States
from meshd_protocol.records import Claim, Verdict, Version

ProbeMessage: TypeAlias = Probe | ProbeAck | ProbeRequest | ProbeReport

# A probe that says that this node is doubted is no evidence: any peer can say so to all others, and each new version
# goes to the whole mesh. A peer is heeded this often; what observers claim, and sign, always is.
_DOUBTS_PER_S: Final = 0.1
_DOUBTS_BURST: Final = 8


class Marks(Protocol):
    """What the detector needs of the roster."""

    def get(self, node: NodeId) -> Entry | None:
        """What is held of one member."""
        ...

    def suspect(self, node: NodeId, version: Version, now: float) -> list[Effect]:
        """Doubt that the publisher of this version lives."""
        ...

    def bury(self, node: NodeId, version: Version, now: float) -> list[Effect]:
        """Hold the publisher of this version for dead."""
        ...


class Spreader(Protocol):
    """What the detector needs of the rumours."""

    def claim(self, claim: VerifiedClaim, now: float) -> None:
        """Tell others."""
        ...


class Detector:
    """One node's part in watching over all.

    The machine tells it of everything that concerns links and lives, and calls `settle` when it has handled an event.
    """

    def __init__(
        self, node: NodeId, rng: random.Random, config: MembershipConfig, roster: Marks, rumours: Spreader
    ) -> None:
        self._node = node
        self._config = config
        self._roster = roster
        self._rumours = rumours
        self._rings = Rings(node, config.rings)
        self._neighbours = Neighbours(node, rng, config, roster)
        self._suspicions = Suspicions(config)
        self._prober = Prober(rng, config, self._rings, self._neighbours, self._doubted)
        self._owed: Version | None = None  # the newest version of this node that it has to refute, and not before:
        self._refute_at = -math.inf
        self._doubts = Allowance(_DOUBTS_PER_S, _DOUBTS_BURST)
        # What this node answers to probes.
        self.load = Load(0, 0)

    # --- what others ask ------------------------------------------------------------------------------------------

    @property
    def connected(self) -> Mapping[NodeId, None]:
        """All peers, in the order in which they came."""
        return self._neighbours.connected

    def connected_neighbours(self) -> Sequence[NodeId]:
        """The neighbours on the rings with whom there is a session. Not to be changed."""
        return self._neighbours.linked()

    def believes_accuser(self, accuser: NodeId, accused: NodeId) -> bool:
        """Whether `accuser` observes `accused`, both living. What others claim need not even be verified."""
        return self._rings.may_accuse(accuser, accused)

    def holds_claim(self, accuser: NodeId, accused: NodeId, version: Version, verdict: Verdict) -> bool:
        """Whether this claim would say nothing new: it is counted, or about a version that is not in question."""
        if self._suspicions.holds(accuser, accused, version, verdict):
            return True
        entry = self._roster.get(accused)
        return entry is None or not _names(version, entry)

    @property
    def health(self) -> int:
        """0 is well; above, this node's own links or clock are in doubt."""
        return self._prober.health.score

    # --- members --------------------------------------------------------------------------------------------------

    def member_joined(self, entry: Entry, now: float) -> list[Effect]:
        """A member lives that did not count as living before."""
        self._rings.add(entry.node)
        return []

    def inherit(self, members: frozenset[NodeId]) -> None:
        """All of these live, this node among them."""
        self._rings.inherit(members)

    def member_gone(self, entry: Entry, now: float) -> list[Effect]:
        """A member is dead, has left or is revoked."""
        node = entry.node
        self._rings.discard(node)
        self._suspicions.drop(node)
        self._prober.give_up(node)
        return []

    def refuted(self, entry: Entry, now: float) -> list[Effect]:
        """A living member has published a newer version than any that was held."""
        suspicion = self._suspicions.get(entry.node)
        if suspicion is not None and entry.version > suspicion.version:
            self._suspicions.drop(entry.node)
        self._neighbours.heard(entry.node, now)
        return []

    # --- sessions -------------------------------------------------------------------------------------------------

    def peer_up(self, node: NodeId, now: float) -> list[Effect]:
        """A session has begun. Nothing proves life better, and whoever is doubted hears of it at once."""
        self._neighbours.up(node, now)
        self._suspicions.answered(node, len(self._rings), now)
        effects = self._prober.peer_up(node)
        if self._doubted(node) is not None:
            effects.append(self._prober.probe(node))
        return effects

    def peer_down(self, node: NodeId, now: float, *, refused: bool) -> list[Effect]:
        """A session has ended. That nobody listens there is evidence at once; else its next probe will tell."""
        self._neighbours.down(node, now)
        if refused:
            return self._refused(node, now)
        self._prober.hurry(node)
        return []

    def dial_failed(self, node: NodeId, now: float, *, refused: bool) -> list[Effect]:
        """A dial has failed, which alone says nothing: two nodes may never have been able to reach each other."""
        lost = self._neighbours.lost(node)
        self._neighbours.failed(node, now)
        return self._refused(node, now) if refused and lost else []

    def silent(self, node: NodeId, now: float) -> list[Effect]:
        """This node can not reach a member that several peers hold for dead: its own patience begins to run out."""
        return self._witness(node, now)

    # --- messages -------------------------------------------------------------------------------------------------

    def message(self, sender: NodeId, message: ProbeMessage, now: float) -> list[Effect]:
        """Handle what a peer sent."""
        match message:
            case Probe():
                return self._answer(sender, message, now)
            case ProbeAck():
                return self._acknowledged(sender, message, now)
            case ProbeRequest():
                return self._prober.help(sender, message, now)
            case ProbeReport():
                self._prober.reported(sender, message)
                return []
            case _:
                assert_never(message)

    def claims(self, claims: Iterable[VerifiedClaim], now: float) -> list[Effect]:
        """Count what believable observers claim, and tell others what they need to hear."""
        effects: list[Effect] = []
        for claim in claims:
            if self.believes_accuser(claim.claim.accuser, claim.claim.accused):
                effects += self._count(claim, now)
        return effects

    def claim_made(self, claim: VerifiedClaim, now: float) -> list[Effect]:
        """This node's own claim is signed. It was counted when it was asked for."""
        self._rumours.claim(claim, now)
        return []

    # --- time -----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        if now > self.next_at() + self._config.probe_s:
            self._wake_up(now)
        effects: list[Effect] = []
        for node, suspicion in self._suspicions.pop_due(now):
            effects += self._bury(node, suspicion, now)
        if self._owed is not None and now >= self._refute_at:
            owed, self._owed = self._owed, None
            effects += self._refute(owed, now)
        effects += self._prober.tick(now)
        if self._prober.is_over(now):
            silent = self._prober.end()
            if silent is not None:
                effects += self._witness(silent, now)
            effects += self._prober.begin(now)
        return effects

    def _wake_up(self, now: float) -> None:
        """This process stood still. What came in meanwhile, answers and refutations, is heard before it judges."""
        self._prober.give_up()
        self._suspicions.postpone(now, now + self._config.probe_s)

    def settle(self, now: float) -> list[Effect]:
        """Aim at the neighbours of now, and dial. To be called when an event has been handled."""
        if self._rings.moved():
            subjects, observers = self._rings.subjects(self._node), self._rings.observers(self._node)
            self._prober.aim(subjects, now)
            self._neighbours.aim((*subjects, *observers), now)
        return [*self._neighbours.dials(now)]

    def next_at(self) -> float:
        """When `tick` or `settle` has something to do though nothing happens."""
        at = min(self._prober.next_at(), self._suspicions.next_at(), self._neighbours.next_at())
        return at if self._owed is None else min(at, self._refute_at)

    def _acknowledged(self, sender: NodeId, ack: ProbeAck, now: float) -> list[Effect]:
        if not self._prober.acknowledged(sender, ack):
            return self._prober.helped(sender, ack)
        entry = self._roster.get(sender)
        if entry is not None:
            entry.load = ack.load
        self._suspicions.answered(sender, len(self._rings), now)
        return []

    # --- refutation -----------------------------------------------------------------------------------------------

    def _answer(self, sender: NodeId, probe: Probe, now: float) -> list[Effect]:
        ack, own = Send(sender, ProbeAck(probe.sequence, self.load)), self._roster.get(self._node)
        if probe.suspected is None or own is None or self._doubts.left(sender, now) < 1:
            return [ack]
        self._doubts.spend(sender, 1, now)
        # Whoever doubts a version that is past has missed what refuted it, and would miss it until its next repair.
        missed = [held.signed for held in own.held() if held.state.version > probe.suspected]
        if missed:
            return [ack, Send(sender, States(missed, []))]
        return [ack, *self._refute(probe.suspected, now)]

    def _refute(self, version: Version, now: float) -> list[Effect]:
        """Publish a newer version, at most once in a while. Versions that this node never had are no concern."""
        own = self._roster.get(self._node)
        if own is None or not _names(version, own):
            return []
        if now < self._refute_at:
            self._owed = version if self._owed is None else max(version, self._owed)
            return []
        self._refute_at = now + self._config.refute_pause_s
        return [PublishAnew(version)]

    # --- suspicions -----------------------------------------------------------------------------------------------

    def _count(self, claim: VerifiedClaim, now: float) -> list[Effect]:
        said = claim.claim
        entry = self._roster.get(said.accused)
        if entry is None or not _names(said.version, entry):
            return []
        if said.accused == self._node:
            self._prober.health.accused(said.accuser)
            return self._refute(said.version, now)
        first = self._suspicions.get(said.accused) is None
        observer = self._rings.observes(said.accuser, said.accused)
        if self._suspicions.count(said, len(self._rings), now, observer=observer):
            self._rumours.claim(claim, now)
        return [*self._mark(said.accused, now), *(self._ask(said.accused) if first else [])]

    def _ask(self, node: NodeId) -> list[Effect]:
        """Have who is newly doubted hear of it, from us too if there is a session: it refutes what it hears of."""
        if self._prober.observes(node) or node not in self._neighbours.connected:
            self._prober.hurry(node)
            return []
        return [self._prober.probe(node)]

    def _witness(self, node: NodeId, now: float) -> list[Effect]:
        """This node itself found a member silent. It accuses only those whom it observes."""
        entry = self._roster.get(node)
        if entry is None or node not in self._rings:
            return []
        news = self._suspicions.witness(self._node, node, entry.version, len(self._rings), now)
        claims = [self._claim(entry, Verdict.SUSPECT)] if news and self._prober.observes(node) else []
        return [*self._mark(node, now), *claims]

    def _refused(self, node: NodeId, now: float) -> list[Effect]:
        effects = self._witness(node, now)
        if self._suspicions.get(node) is not None:
            self._suspicions.refused(node, len(self._rings), now)
        return effects

    def _mark(self, node: NodeId, now: float) -> list[Effect]:
        suspicion = self._suspicions.get(node)
        assert suspicion is not None, "only what was just counted is marked"
        return self._roster.suspect(node, suspicion.version, now)

    def _bury(self, node: NodeId, suspicion: Suspicion, now: float) -> list[Effect]:
        entry = self._roster.get(node)
        if entry is None or node not in self._rings:
            return []
        tell = self._prober.observes(node) and not self._suspicions.agreed(suspicion, len(self._rings))
        claims = [self._claim(entry, Verdict.DEAD)] if tell else []
        effects = [*claims, *self._roster.bury(node, suspicion.version, now)]
        if node in self._neighbours.connected:
            effects.append(self._prober.probe(node))  # if it lives after all, it knows at once what to refute
        return effects

    def _claim(self, entry: Entry, verdict: Verdict) -> Effect:
        return MakeClaim(Claim(entry.core.state.mesh, self._node, entry.node, entry.version, verdict))

    def _doubted(self, node: NodeId) -> Version | None:
        """The version of a node that somebody doubts, or that is held for dead."""
        suspicion = self._suspicions.get(node)
        if suspicion is not None:
            return suspicion.version
        entry = self._roster.get(node)
        return max(entry.version, entry.marked) if entry is not None and entry.mark is MemberState.DEAD else None


def _names(version: Version, entry: Entry) -> bool:
    """Whether a claim of this version is about what is held, or about what may be on its way."""
    held = entry.version
    return held <= version and version.epoch == held.epoch and version.sequence - held.sequence <= VERSIONS_AHEAD_MAX
