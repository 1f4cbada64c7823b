"""Membership: one node's view of its mesh, kept by probes, rumours and repair. Spec: 10-membership.md.

The roster holds what publishers and observers say, the detector finds out who has died, rumours carry news, repair
finds what they left out. Here they are told of events, in an order that none of them has to know.
"""

import math
import random
from collections.abc import Container, Sequence
from typing import assert_never

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.detector import Detector
from meshd_node.core.membership.effects import Drop, Effect, Member, MemberChanged, MemberState, PublishAnew, Wake
from meshd_node.core.membership.events import (
    ClaimMade,
    DialFailed,
    Event,
    Inherited,
    LoadChanged,
    MessageArrived,
    NewsArrived,
    PeerDown,
    PeerUp,
    Published,
    Revoked,
    Tick,
    Unsigned,
    VerifiedRevocation,
    VerifiedState,
)
from meshd_node.core.membership.repair import Repair
from meshd_node.core.membership.roster import Roster
from meshd_node.core.membership.rumours import Rumours
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import (
    BucketDigests,
    Probe,
    ProbeAck,
    ProbeReport,
    ProbeRequest,
    StateWants,
    Summary,
)
from meshd_protocol.records import Slot, Verdict, Version


class Membership:
    """One node's view of its mesh, itself included once it has published."""

    def __init__(self, node: NodeId, rng: random.Random, config: MembershipConfig) -> None:
        self._node = node
        self._rng = rng
        self._roster = Roster(node, config)
        self._rumours = Rumours(node, rng, config, self._roster)
        self._detector = Detector(node, rng, config, self._roster, self._rumours)
        self._repair = Repair(node, rng, config, self._roster, self._detector.connected)
        self._refresh_at = math.inf
        self._refreshing = False
        self._wake_at = math.inf

    # --- what others ask ------------------------------------------------------------------------------------------

    def members(self) -> list[Member]:
        """Every member that this node knows of; dead, left and revoked ones included while they are remembered."""
        return [entry.member() for entry in self._roster]

    def member(self, node: NodeId) -> Member | None:
        """One of them."""
        entry = self._roster.get(node)
        return None if entry is None else entry.member()

    def whereabouts(self, peers: Container[NodeId]) -> dict[NodeId, tuple[str, ...]]:
        """The addresses of all living members, and of such peers as are held for anything else."""
        return {entry.node: entry.addresses for entry in self._roster if entry.living or entry.node in peers}

    def knows(self, node: NodeId) -> bool:
        """Whether this is a member, in whatever state: its certificate has come."""
        return self._roster.get(node) is not None

    def version(self, node: NodeId, slot: Slot) -> Version | None:
        """Which version of a slot is held. What is not newer need not be verified."""
        return self._roster.version(node, slot)

    def revoked(self, node: NodeId) -> bool:
        """Whether this member is cut off: nothing that it says need be verified."""
        return self._roster.revoked(node)

    def holds_revocation(self, node: NodeId, operator: str) -> bool:
        """Whether a revocation of this operator's node is held."""
        return self._roster.revocations.get(node, operator) is not None

    def holds_claim(self, accuser: NodeId, accused: NodeId, version: Version, verdict: Verdict) -> bool:
        """Whether this claim would say nothing new."""
        return self._detector.holds_claim(accuser, accused, version, verdict)

    def believes_accuser(self, accuser: NodeId, accused: NodeId) -> bool:
        """Whether this accuser's claims count: others' need not be verified."""
        return self._detector.believes_accuser(accuser, accused)

    def refresh_s(self) -> float:
        """How long a node waits before it signs its offer anew."""
        return self._roster.refresh_s()

    # --- what happens ---------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Apply one event; return what the shell must do, in order."""
        match event:
            case NewsArrived(sender):
                if self._roster.revoked(sender):
                    return []
                if not (event.states or event.claims or event.revocations or event.answer):
                    return self._rumours.heard(sender, event.digests, now)  # nearly all that comes moves no deadline
                effects = self._news(event, now)
            case MessageArrived(sender, message):
                if self._roster.revoked(sender):
                    return []
                effects = self._message(sender, message, now)
                if isinstance(message, StateWants) or (isinstance(message, Probe) and message.suspected is None):
                    return effects  # nothing to wait for follows from these
            case Tick():
                effects = self._tick(now)
            case PeerUp(node) if self._roster.revoked(node):
                effects = [Drop(node)]
            case PeerUp(node):
                effects = [*self._detector.peer_up(node, now), *self._repair.peer_up(node, now)]
                # After the rumours that go at once: what they bring need not be asked for.
                return [*self._settled(effects, now), *self._rumours.greet(node)]
            case PeerDown(node, refused):
                self._repair.peer_down(node)
                effects = self._detector.peer_down(node, now, refused=refused)
            case DialFailed(node, refused):
                effects = self._detector.dial_failed(node, now, refused=refused)
                if self._repair.dial_failed(node, now):
                    effects += self._detector.silent(node, now)
            case Published(state):
                effects = self._publish(state, now)
            case ClaimMade(claim):
                effects = self._detector.claim_made(claim, now)
            case Revoked(revocations):
                effects = self._revoke(revocations, None, now)
            case LoadChanged(load):
                self._detector.load = load
                return []
            case Inherited(population):
                self._roster.inherit(population, now)
                self._detector.inherit(population.nodes)
                effects = self._repair.answered(self._node, len(population.nodes) - 1, now)
            case _:
                assert_never(event)
        return self._settled(effects, now)

    def _message(self, sender: NodeId, message: Unsigned, now: float) -> list[Effect]:
        match message:
            case Probe() | ProbeAck() | ProbeRequest() | ProbeReport():
                return self._detector.message(sender, message, now)
            case Summary(hashes):
                return self._repair.summary(sender, hashes, now)
            case BucketDigests():
                return self._repair.digests(sender, message, now)
            case StateWants(handles):
                return self._repair.wanted(sender, handles, now)
            case _:
                assert_never(message)

    def _news(self, news: NewsArrived, now: float) -> list[Effect]:
        """Take in what a peer told. States before claims: a newer version answers what is claimed beside it."""
        effects = self._revoke(news.revocations, news.sender, now)
        strangers = 0
        for state in news.states:
            stranger = self._roster.get(state.state.publisher) is None
            accepted, asked = self._accept(state, news, now)
            effects += accepted
            strangers += stranger and not asked
        effects += self._moved(now)  # whom this made members may be accused beside it
        effects += self._detector.claims(news.claims, now)
        if news.digests:
            effects += self._rumours.heard(news.sender, news.digests, now)
        if news.answer:
            effects += self._repair.answered(news.sender, strangers, now)
        return _last_words(effects)

    def _accept(self, state: VerifiedState, news: NewsArrived, now: float) -> tuple[list[Effect], bool]:
        """Hold a state that is newer and pass it on; also whether it was asked for because a rumour named it."""
        asked = news.answer and self._rumours.answered(state)
        if state.state.publisher == self._node:
            return [], asked
        accepted = self._roster.accept(state, now, second_hand=news.answer and not asked)
        if accepted is None:
            return [], asked
        effects = accepted.effects
        if accepted.newest:
            self._rumours.refuted(accepted.entry.node)
            effects += self._detector.refuted(accepted.entry, now)
        # What repair found was a rumour once, and would be one again at everybody who finds it. But that somebody lives
        # who was doubted, or held for dead, is news to all of this half of a mesh that was split.
        if asked or not news.answer or accepted.cleared:
            self._rumours.state(state, urgent=accepted.urgent, teller=news.sender)
        return effects, asked

    def _publish(self, state: VerifiedState, now: float) -> list[Effect]:
        assert state.state.publisher == self._node, "another node's state is not ours to publish"
        accepted = self._roster.accept(state, now)
        if accepted is None:
            assert self._roster.revoked(self._node), "a node's own versions rise, and its core comes before its offer"
            return []
        # Only what nobody waits for can wait: everything but the refresh that this machine has asked for.
        self._rumours.state(state, urgent=not self._refreshing)
        self._refreshing = False
        self._refresh_at = now + self.refresh_s() * self._rng.uniform(0.9, 1.1)
        return accepted.effects

    def _revoke(self, revocations: Sequence[VerifiedRevocation], teller: NodeId | None, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for revocation in revocations:
            cut_off = self._roster.revoke(revocation, now)
            if cut_off is not None:
                effects += cut_off
                self._rumours.revocation(revocation, teller)
        return effects

    def _tick(self, now: float) -> list[Effect]:
        self._wake_at = math.inf
        effects = self._detector.tick(now) if now >= self._detector.next_at() else []
        if now >= self._repair.next_at():
            effects += self._repair.tick(now)
        if now >= self._roster.next_at():
            effects += self._roster.tick(now, self._detector.connected)
        own = self._roster.get(self._node)
        if now >= self._refresh_at and own is not None:
            self._refresh_at = now + self.refresh_s()
            self._refreshing = True
            effects.append(PublishAnew(own.version))
        return effects

    # --- what follows ---------------------------------------------------------------------------------------------

    def _settled(self, effects: list[Effect], now: float) -> list[Effect]:
        """Whatever happened: rings follow who lives, news leaves, and the shell knows when to come back."""
        if self._roster.moves:
            effects += self._moved(now)
        effects += self._detector.settle(now)
        # All peers hear rumours, not the ring's alone: what heals a split crosses it on links that repair has made.
        hearers = self._detector.connected
        rumours_at = self._rumours.next_at() if hearers else math.inf
        if rumours_at <= now:
            effects += self._rumours.tick(now, hearers)
            rumours_at = self._rumours.next_at()
        at = min(self._detector.next_at(), self._repair.next_at(), self._roster.next_at(), self._refresh_at, rumours_at)
        at = at if at > now else now  # what became due by this event is done by the next tick
        if at != self._wake_at and not math.isinf(at):
            self._wake_at = at
            effects.append(Wake(at))
        return effects

    def _moved(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while self._roster.moves:
            moves, self._roster.moves = self._roster.moves, []
            for entry, joined in moves:
                if joined:
                    effects += self._detector.member_joined(entry, now)
                else:
                    effects += self._detector.member_gone(entry, now)
                    if entry.mark is MemberState.REVOKED:
                        self._rumours.silence(entry.node)
        return effects


def _last_words(effects: list[Effect]) -> list[Effect]:
    """Say of each member only what is true in the end: a message often brings its core and its offer."""
    last = {effect.member.node: effect for effect in effects if isinstance(effect, MemberChanged)}
    return [effect for effect in effects if not isinstance(effect, MemberChanged) or last[effect.member.node] is effect]
