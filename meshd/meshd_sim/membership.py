"""The shell of a membership machine in a simulated world: what comes in is checked, what goes out is signed."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, assert_never

from meshd_node.core.membership.effects import (
    Dial,
    Drop,
    Effect,
    MakeClaim,
    Member,
    MemberChanged,
    PublishAnew,
    Send,
    Wake,
)
from meshd_node.core.membership.events import (
    ClaimMade,
    DialFailed,
    Event,
    MessageArrived,
    NewsArrived,
    PeerDown,
    PeerUp,
    Published,
    Revoked,
    Tick,
    VerifiedClaim,
    VerifiedRevocation,
    VerifiedState,
)
from meshd_node.core.membership.machine import Membership
from meshd_node.core.membership.own_versions import OwnVersions
from meshd_node.core.membership.seeds import Seeds
from meshd_node.core.membership.sifting import is_newer, may_count, wants_of
from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import (
    BucketDigests,
    Probe,
    ProbeAck,
    ProbeReport,
    ProbeRequest,
    Rumours,
    SignedClaim,
    SignedRevocation,
    SignedState,
    States,
    StateWants,
    Summary,
)
from meshd_protocol.records import Core, Offer, Slot
from meshd_sim.disks import Disk
from meshd_sim.notary import Notary
from meshd_sim.process import Process

MEMBERSHIP_MESSAGES: Final[tuple[type[Message], ...]] = (
    Probe, ProbeAck, ProbeRequest, ProbeReport, Rumours, StateWants, States, Summary, BucketDigests,
)  # fmt: skip


class Watch(Protocol):
    """Told of everything that a membership does. Nobody who is told may change anything."""

    def published(self, node: NodeId, state: VerifiedState) -> None:
        """A node said something of itself."""
        ...

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""
        ...

    def claimed(self, claim: VerifiedClaim) -> None:
        """An honest node accuses another."""
        ...

    def revoked(self, node: NodeId, revocations: list[VerifiedRevocation]) -> None:
        """A node learned of revocations."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Self:
    """What a node says of itself when its process starts, and when it begins to try its seeds."""

    core: Core
    offer: Offer
    epoch: int
    looks_after_s: float = 0.0


class MembershipHost:
    """One process's membership."""

    def __init__(
        self, process: Process, machine: Membership, seeds: Seeds, disk: Disk, notary: Notary, watch: Watch
    ) -> None:
        self.machine = machine
        self._disk = disk
        self._process = process
        self._node = process.node
        self._clock = process.clock
        self._seeds = seeds
        self._notary = notary
        self._watch = watch
        self._versions = OwnVersions(0)
        self._said: dict[Slot, VerifiedState] = {}
        self._revocations: dict[bytes, None] = {}
        self._inbox: deque[Event] = deque()
        self._busy = False
        self._alarm = process.alarm(self._tick)
        self._seeds_alarm = process.alarm(self._try_seeds)
        process.add(self, MEMBERSHIP_MESSAGES)
        process.refuse(self._refuses)

    def start(self, who: Self) -> None:
        """Say who this is, and begin to look for others."""
        self._versions = OwnVersions(who.epoch)
        self.publish(who.core)
        self.publish(who.offer)
        kept = self._disk.read("revocations")
        if isinstance(kept, tuple):
            self._revocations.update((each.signed.body, None) for each in kept)
            self.handle(Revoked(list(kept)))
        self._seeds_alarm.set(self._process.now + who.looks_after_s)

    def publish(self, content: Core | Offer) -> None:
        """Say something new of this node."""
        version = self._versions.following()
        self._versions.pass_over(version)
        state = self._notary.sign_state(self._node, version, content)
        self._said[state.state.slot] = state
        self._watch.published(self._node, state)
        self.handle(Published(state))

    def own_states(self) -> list[VerifiedState]:
        """What this node said last of each of its slots, what proves it first."""
        return [self._said[slot] for slot in Slot if slot in self._said]

    def revoke(self, revocations: list[VerifiedRevocation]) -> None:
        """Somebody at this node revoked others."""
        self._revocations.update((each.signed.body, None) for each in revocations)
        self.handle(Revoked(revocations))
        self._keep(revocations)

    # --- what the process reports ---------------------------------------------------------------------------------

    def link_up(self, node: NodeId, address: str) -> None:
        """A session began."""
        if address:
            self._seeds.answered(address, node)
        self.handle(PeerUp(node))

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        """A session ended."""
        self.handle(PeerDown(node, refused))

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        """A dial ended without a session."""
        if node is not None:
            self.handle(DialFailed(node, refused))
        else:
            self._seeds.failed(address, self._process.now)
            self._seeds_alarm.set(self._seeds.next_at())

    def message(self, sender: NodeId, message: Message, stream: int) -> None:
        """A peer's message."""
        match message:
            case Rumours():
                if message.states or message.claims or message.revocations:
                    said = message.revocations, message.claims, message.states, message.digests
                    self._learn(sender, *said, answer=False)
                elif message.digests:
                    self.handle(NewsArrived(sender, [], [], [], message.digests, False))
            case States(states, revocations):
                self._learn(sender, revocations, [], states, b"", answer=True)
            case Probe() | ProbeAck() | ProbeRequest() | ProbeReport() | StateWants() | Summary() | BucketDigests():
                self.handle(MessageArrived(sender, message))

    # --- news -----------------------------------------------------------------------------------------------------

    def _learn(
        self,
        sender: NodeId,
        revocations: list[SignedRevocation],
        claims: list[SignedClaim],
        states: list[SignedState],
        digests: bytes,
        *,
        answer: bool,
    ) -> None:
        ended = self._new_revocations(revocations)
        fresh, own, unproved = self._new_states(states)
        accusations = self._new_claims(claims, fresh)
        if ended or accusations or fresh or digests:
            self.handle(NewsArrived(sender, ended, accusations, fresh, digests, answer))
        if ended:
            self._keep(ended)
        if unproved:
            self._process.send(sender, wants_of(unproved))
        self._outbid(own)

    def _new_revocations(self, revocations: list[SignedRevocation]) -> list[VerifiedRevocation]:
        unknown = [signed for signed in revocations if signed.body not in self._revocations]
        self._revocations.update((signed.body, None) for signed in unknown)
        return [self._notary.verify_revocation(signed) for signed in unknown]

    def _refuses(self, node: NodeId) -> bool:
        """As the transport does: by the certificate, though nobody told yet who this is."""
        if not self._notary.admitted(node):
            return True
        return self.machine.holds_revocation(node, self._notary.certified(node).operator)

    def _keep(self, revocations: list[VerifiedRevocation]) -> None:
        """Know them after the next start, too."""
        held = self._disk.read("revocations")
        self._disk.write("revocations", (*(held if isinstance(held, tuple) else ()), *revocations))
        self._disk.sync()
        for each in revocations:
            self._process.after(0.0, partial(self._process.hang_up, NodeId(each.revocation.node)))
        self._watch.revoked(self._node, revocations)

    def _new_states(
        self, states: list[SignedState]
    ) -> tuple[list[VerifiedState], list[VerifiedState], dict[NodeId, None]]:
        """What is newer than what is held, of others and of our own, and whose certificate has not come yet."""
        machine, notary = self.machine, self._notary
        fresh: dict[tuple[NodeId, Slot], VerifiedState] = {}
        own: list[VerifiedState] = []
        unproved: dict[NodeId, None] = {}
        for signed in states:
            checked = notary.read_state(signed)
            state, publisher = checked.state, NodeId(checked.state.publisher)
            if not is_newer(machine, state):
                continue
            proved = state.slot is Slot.CORE or (publisher, Slot.CORE) in fresh or machine.knows(publisher)
            if not proved:
                unproved[publisher] = None
            elif publisher == self._node:
                own.append(notary.verify_state(checked))
            else:
                fresh[publisher, state.slot] = notary.verify_state(checked)
        return list(fresh.values()), own, unproved

    def _new_claims(self, claims: list[SignedClaim], fresh: list[VerifiedState]) -> list[VerifiedClaim]:
        machine, notary = self.machine, self._notary
        verified: list[VerifiedClaim] = []
        for signed in claims:
            claim = notary.read_claim(signed)
            if not may_count(machine, claim):
                continue
            accuser = NodeId(claim.accuser)
            known = machine.knows(accuser) or any(each.state.publisher == accuser for each in fresh)
            if known:
                verified.append(notary.verify_claim(signed, claim))
        return verified

    def _outbid(self, own: Sequence[VerifiedState]) -> None:
        """Answer what we said before our boot epoch was lost by something newer: else nobody would hear us."""
        if own and self._versions.outbid(max(each.state.version for each in own)):
            for said in self.own_states():
                self.publish(said.content)

    # --- time and effects -----------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Apply an event, after those that came before it; what it asks for may bring further ones."""
        if self._busy:
            self._inbox.append(event)
            return
        self._busy = True
        try:
            for effect in self.machine.handle(event, self._clock.now()):
                self._perform(effect)
            while self._inbox:
                for effect in self.machine.handle(self._inbox.popleft(), self._clock.now()):
                    self._perform(effect)
        finally:
            self._busy = False

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send(node, message):
                self._process.send(node, message)
            case Wake(at):
                self._alarm.set(at)
            case MemberChanged(member):
                self._watch.changed(self._node, member)
            case Dial(node, addresses):
                self._process.dial(node, addresses)
            case MakeClaim(claim):
                made = self._notary.sign_claim(self._node, claim)
                self._watch.claimed(made)
                self.handle(ClaimMade(made))
            case PublishAnew(above):
                self._versions.pass_over(above)
                self.publish(self._said[Slot.OFFER].content)
            case Drop(node):
                # Not now: the end of a session is an event, and this one is not over.
                self._process.after(0.0, partial(self._process.hang_up, node))
            case _:
                assert_never(effect)

    def _tick(self) -> None:
        self.handle(Tick())

    def _try_seeds(self) -> None:
        now = self._process.now
        peers = self._process.sessions()
        for address in self._seeds.due_beside(self._node, peers, self.machine.whereabouts(peers), now):
            self._process.dial(None, (address,))
        self._seeds_alarm.set(self._seeds.next_at())
