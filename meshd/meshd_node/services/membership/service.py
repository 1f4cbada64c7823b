"""The membership service: lets in what is proved, signs what this node says, and does what the machine asks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, assert_never

import trio

from meshd_node.core.membership.effects import (
    Dial,
    Drop,
    Effect,
    MakeClaim,
    Member,
    MemberChanged,
    Outgoing,
    PublishAnew,
    Send,
    Wake,
)
from meshd_node.core.membership.events import (
    ClaimMade,
    DialFailed,
    Event,
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
from meshd_node.core.membership.machine import Membership
from meshd_node.core.membership.seeds import Seeds
from meshd_node.core.membership.sifting import wants_of
from meshd_node.log import log
from meshd_node.seams import Seams
from meshd_node.services.membership.claims import sign_claim
from meshd_node.services.membership.news import News
from meshd_node.services.membership.own_states import OwnStates
from meshd_node.services.membership.solitude import Solitude
from meshd_node.services.one_at_a_time import OneAtATime
from meshd_node.services.timer import Timer
from meshd_protocol.certificates import Certified
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import (
    Load,
    Probe,
    Rumours,
    SignedClaim,
    SignedRevocation,
    SignedState,
    States,
)
from meshd_protocol.records import Core, Offer, Slot

Incoming: TypeAlias = Rumours | States | Unsigned


class Outside(Protocol):
    """What the service needs of others. Every call returns at once."""

    def send(self, node: NodeId, message: Outgoing) -> None:
        """Send to a peer; nothing happens if its session is gone."""
        ...

    def dial(self, node: NodeId | None, addresses: Sequence[str]) -> None:
        """Try for a session; answer with `link_up` or `dial_failed`. Without a node: whoever lives at the address."""
        ...

    def drop(self, node: NodeId) -> None:
        """End the session with a revoked node, if there is one."""
        ...

    def member_changed(self, member: Member) -> None:
        """A member is new or differs from what was last said of it."""
        ...

    def revoked(self, revocations: list[VerifiedRevocation]) -> None:
        """These nodes are revoked, and others told so."""
        ...

    def load(self) -> Load:
        """How busy this node is now."""
        ...

    def flush(self) -> None:
        """Send what was queued since nobody else will: a timer fired."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipSetup:
    """Who this node is. `boot_epoch` is larger than at any earlier start, so that what it says now wins."""

    certified: Certified
    root_key: bytes
    boot_epoch: int


class MembershipService:
    """One node's membership. All but `run` is synchronous and is called by the transport's handler."""

    def __init__(
        self, machine: Membership, seeds: Seeds, setup: MembershipSetup, outside: Outside, seams: Seams
    ) -> None:
        self._machine = machine
        self._seeds = seeds
        self._own = OwnStates(setup.certified, setup.boot_epoch, seams.signer)
        self._outside = outside
        self._seams = seams
        self._news = News(setup.certified, setup.root_key, machine, seams)
        self._load: Load | None = None
        self._solitude = Solitude()
        self._machine_at = math.inf
        self._handle = OneAtATime(self._apply)
        self._timer = Timer(self._fire, outside.flush)

    # --- what others ask ------------------------------------------------------------------------------------------

    def members(self) -> list[Member]:
        """Every known member, this node included."""
        return self._machine.members()

    def member(self, node: NodeId) -> Member | None:
        """One of them."""
        return self._machine.member(node)

    def publish(self, content: Core | Offer, certified: Certified | None = None) -> None:
        """Sign and spread a new version of one of this node's slots, its `core` first.

        `certified` comes with a `core` that has a renewed certificate.
        """
        self._own.certified = certified or self._own.certified
        self._handle(Published(self._own.sign(content)))

    def leave(self, last: Offer) -> None:
        """Say goodbye to every peer at once: there is no later."""
        state = self._own.sign(last)
        self._handle(Published(state))
        for peer in self._news.peers():
            self._outside.send(peer, Rumours([], [], [state.signed], b""))

    def revoke(self, revocations: list[VerifiedRevocation]) -> None:
        """Somebody at this node revoked others, or an earlier start of it knew of them."""
        self._news.known(revocations)
        self._handle(Revoked(revocations))

    # --- what the transport reports -------------------------------------------------------------------------------

    def link_up(self, node: NodeId, dialled: str = "") -> None:
        """A control session began; `dialled` is the address if we dialled it."""
        self._solitude.met()
        self._news.greet(node)
        if dialled:
            self._seeds.answered(dialled, node)
        self._handle(PeerUp(node))

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        """A session ended; `refused`: its address answered that nobody listens there."""
        self._news.forget(node)
        self._handle(PeerDown(node, refused))

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        """A dial ended without a session, after all of its addresses were tried."""
        if node is not None:
            self._handle(DialFailed(node, refused))
            return
        now = self._seams.monotonic()
        self._seeds.failed(address, now)
        if self._seeds.all_fail() and not self._news.peers():
            self._solitude.failed(address, now)
        self._set_timer()

    def message(self, sender: NodeId, message: Incoming) -> None:
        """A peer's message. Raises its `RemoteProtocolError`: then the link has to end."""
        match message:
            case Rumours(revocations, claims, states, digests):
                self._learn(sender, revocations, claims, states, digests, answer=False)
            case States(states, revocations):
                self._learn(sender, revocations, [], states, b"", answer=True)
            case _:
                if isinstance(message, Probe):
                    self._tell_load()
                self._handle(MessageArrived(sender, message))

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
        news = self._news
        ended = news.revocations(sender, revocations)
        fresh, unproved = news.states(sender, states)
        accusations = news.claims(sender, claims, fresh)
        others, own = _split(fresh, self._own.certified.node)
        if ended:
            # On the disk, and with their sessions gone, before anybody hears of them.
            self._outside.revoked(ended)
        if answer or ended or accusations or others or digests:
            self._handle(NewsArrived(sender, ended, accusations, others, digests, answer))
        if unproved:
            self._outside.send(sender, wants_of(unproved))
        if own and self._own.outbid(max(each.state.version for each in own)):
            # Else nobody would hear us: our own former life speaks with a newer version.
            log.warning("own_state_outbid", reason="this node's folder was restored, or runs twice: then stop one")
            self._publish_again(*Slot)

    def _publish_again(self, *slots: Slot) -> None:
        for slot in slots:
            content = self._own.said(slot)
            if content is not None:
                self.publish(content)

    def _tell_load(self) -> None:
        """What the answer to a probe says; asked for here, so that the work itself reports nothing."""
        load = self._outside.load()
        if load != self._load:
            self._load = load
            self._handle(LoadChanged(load))

    # --- time and effects -----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled: probes, rumours, refreshes, seeds."""
        self._set_timer()
        await self._timer.run(task_status=task_status)

    def _apply(self, event: Event) -> None:
        for effect in self._machine.handle(event, self._seams.monotonic()):
            self._perform(effect)
        self._set_timer()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send(node, message):
                self._outside.send(node, message)
            case Wake(at):
                self._machine_at = at
            case MemberChanged(member):
                self._outside.member_changed(member)
            case Dial(node, addresses):
                self._outside.dial(node, addresses)
            case Drop(node):
                self._outside.drop(node)
            case MakeClaim(claim):
                self._handle(ClaimMade(sign_claim(self._seams.signer, claim)))
            case PublishAnew(above):
                # Liars accuse versions that we have not made yet: one more than our last would refute nothing.
                self._own.pass_over(above)
                self._publish_again(Slot.OFFER)
            case _:
                assert_never(effect)

    def _set_timer(self) -> None:
        self._timer.set(min(self._machine_at, self._seeds.next_at(), self._solitude.next_at()))

    def _fire(self) -> None:
        now = self._seams.monotonic()
        self._solitude.tick(now)
        if now >= self._seeds.next_at():
            self._try_seeds(now)
        if now >= self._machine_at:
            self._machine_at = math.inf
            self._handle(Tick())
        self._set_timer()

    def _try_seeds(self, now: float) -> None:
        peers = self._news.peers()
        near = self._machine.whereabouts(set(peers))
        for address in self._seeds.due_beside(self._own.certified.node, peers, near, now):
            self._outside.dial(None, (address,))


def _split(states: list[VerifiedState], me: NodeId) -> tuple[list[VerifiedState], list[VerifiedState]]:
    """Others' states, and our own."""
    own = [state for state in states if state.state.publisher == me]
    return [state for state in states if state.state.publisher != me], own
