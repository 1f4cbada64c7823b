"""The membership service: checks what comes in, signs what goes out, and does what the machine asks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, assert_never

import trio

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Dial, Effect, Member, MemberChanged, Send, Wake
from meshd_node.core.membership.events import (
    DialFailed,
    DigestsArrived,
    Event,
    PeerDown,
    PeerUp,
    Published,
    StatesArrived,
    Tick,
    VerifiedState,
    WantsArrived,
)
from meshd_node.core.membership.machine import Membership
from meshd_node.core.membership.seeds import Seeds
from meshd_node.seams import Seams
from meshd_node.services.budget import Budget
from meshd_node.services.state_checks import OverBudget, StateChecks
from meshd_node.services.timer import Timer
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import LocalProtocolError
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import STATE_BYTES_MAX, STATES_PER_MESSAGE_MAX
from meshd_protocol.messages.peer import SignedState, StateDigests, States, StateWants
from meshd_protocol.records import U32_MAX, Core, Offer, Slot, State, Version, encode_record
from meshd_protocol.signing import Domain

# One peer may keep us busy with signatures for 27 ms of a second; a newcomer's first 2,000 checks are not delayed.
CHECKS_PER_S: Final = 256
CHECKS_BURST: Final = 2_048


class Outside(Protocol):
    """What the service needs of others. Every call returns at once."""

    def send(self, node: NodeId, message: States | StateDigests | StateWants) -> None:
        """Send to a peer; nothing happens if its session is gone."""
        ...

    def dial(self, node: NodeId | None, addresses: Sequence[str]) -> None:
        """Try for a session; answer with `link_up` or `dial_failed`. Without a node: whoever lives at the address."""
        ...

    def member_changed(self, member: Member) -> None:
        """A member is new or differs from what was last said of it."""
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
    seeds: tuple[str, ...] = ()
    config: MembershipConfig = field(default_factory=MembershipConfig)


class MembershipService:
    """One node's membership. All but `run` is synchronous and is called by the transport's handler."""

    def __init__(self, setup: MembershipSetup, outside: Outside, seams: Seams) -> None:
        self._certified = setup.certified
        self._outside = outside
        self._seams = seams
        self._checks = StateChecks(setup.certified.mesh, setup.root_key, seams.wall)
        self._machine = Membership(setup.certified.node, seams.rng, setup.config)
        self._seeds = Seeds(setup.seeds, seams.rng, setup.config)
        self._budgets: dict[NodeId, Budget] = {}
        self._version = Version(setup.boot_epoch, 0)
        self._published: dict[Slot, Core | Offer] = {}
        self._machine_at = self._refresh_at = math.inf
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
        self._certified = certified or self._certified
        slot = Slot.CORE if isinstance(content, Core) else Slot.OFFER
        version = Version(self._version.epoch, self._version.sequence + 1)
        state = State(self._certified.mesh, self._certified.node, slot, version, encode_record(content))
        body = encode_record(state)
        if len(body) > STATE_BYTES_MAX:
            raise LocalProtocolError(f"this node's {slot.name.lower()} has {len(body)} bytes of {STATE_BYTES_MAX}")
        signed = self._seams.signer.sign(Domain.STATE, body)
        self._version = version
        self._published[slot] = content
        self._refresh_at = self._seams.monotonic() + self._machine.refresh_s()
        self._handle(Published(VerifiedState(SignedState(body, signed.signature), state, content, self._certified)))

    # --- what the transport reports -------------------------------------------------------------------------------

    def link_up(self, node: NodeId, dialled: str = "") -> None:
        """A control session began; `dialled` is the address if we dialled it."""
        self._budgets.setdefault(node, Budget(CHECKS_PER_S, CHECKS_BURST))
        if dialled:
            self._seeds.answered(dialled, node)
        self._handle(PeerUp(node))

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        """A session ended; `refused`: its address answered that nobody listens there."""
        self._budgets.pop(node, None)
        self._handle(PeerDown(node, refused))

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        """A dial ended without a session, after all of its addresses were tried."""
        if node is not None:
            self._handle(DialFailed(node, refused))
            return
        self._seeds.failed(address, self._seams.monotonic())
        self._set_timer()

    def message(self, sender: NodeId, message: States | StateDigests | StateWants) -> None:
        """A peer's message. Raises its `RemoteProtocolError`: then the link has to end."""
        match message:
            case StateDigests(digests):
                self._handle(DigestsArrived(sender, digests))
            case StateWants(wants):
                self._handle(WantsArrived(sender, wants))
            case States(states):
                self._receive(sender, states)
            case _:
                assert_never(message)

    # --- states that come in --------------------------------------------------------------------------------------

    def _receive(self, sender: NodeId, states: list[SignedState]) -> None:
        verified, unproved = self._verify(sender, states)
        if verified:
            self._handle(StatesArrived(sender, verified))
        if unproved:
            wants = [(node, slot) for slot in Slot for node in unproved][:STATES_PER_MESSAGE_MAX]
            self._outside.send(sender, StateWants(wants))
        self._outbid(verified)

    def _verify(self, sender: NodeId, states: list[SignedState]) -> tuple[list[VerifiedState], list[NodeId]]:
        """Check what is newer than what is held; also name the publishers whose certificate has not come yet."""
        budget = self._budgets.setdefault(sender, Budget(CHECKS_PER_S, CHECKS_BURST))
        spend = partial(budget.spend, now=self._seams.monotonic())
        proved: dict[NodeId, Certified] = {}
        verified: list[VerifiedState] = []
        unproved: dict[NodeId, None] = {}
        for signed in states:
            state = self._checks.read(signed)
            publisher = NodeId(state.publisher)
            held = self._machine.version(publisher, state.slot)
            if held is not None and state.version <= held:
                continue
            known = proved.get(publisher) or self._known(publisher)
            if known is None and state.slot is Slot.OFFER:
                unproved[publisher] = None
                continue
            try:
                checked = self._checks.check(signed, state, sender, known, spend)
            except OverBudget:
                break
            if checked is not None:
                proved[publisher] = checked.certified
                verified.append(checked)
        return verified, list(unproved)

    def _known(self, publisher: NodeId) -> Certified | None:
        if publisher == self._certified.node:
            return self._certified
        member = self._machine.member(publisher)
        return None if member is None else member.certified

    def _outbid(self, states: list[VerifiedState]) -> None:
        """Answer states of our own from before our boot epoch was lost by newer ones: else nobody would hear us."""
        ours = [state.state.version for state in states if state.state.publisher == self._certified.node]
        newest = max(ours, default=self._version)
        if newest > self._version and newest.epoch < U32_MAX:
            self._version = Version(newest.epoch + 1, 0)
            for slot in Slot:
                if slot in self._published:
                    self.publish(self._published[slot])

    # --- time and effects -----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled: timeouts, refreshes, seeds."""
        self._set_timer()
        await self._timer.run(task_status=task_status)

    def _handle(self, event: Event) -> None:
        for effect in self._machine.handle(event, self._seams.monotonic()):
            self._perform(effect)
        self._set_timer()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send(node, message):
                self._outside.send(node, message)
            case Dial(node, addresses):
                self._outside.dial(node, addresses)
            case MemberChanged(member):
                self._outside.member_changed(member)
            case Wake(at):
                self._machine_at = at
            case _:
                assert_never(effect)

    def _set_timer(self) -> None:
        self._timer.set(min(self._machine_at, self._refresh_at, self._seeds.next_at()))

    def _fire(self) -> None:
        now = self._seams.monotonic()
        if now >= self._seeds.next_at():
            self._try_seeds(now)
        if now >= self._refresh_at:
            self._refresh(now)
        if now >= self._machine_at:
            self._machine_at = math.inf
            self._handle(Tick())
        self._set_timer()

    def _try_seeds(self, now: float) -> None:
        connected = self._budgets.keys()
        near = [member for node in (*connected, self._certified.node) if (member := self.member(node)) is not None]
        served = {address for member in near for address in member.core.addresses}
        for address in self._seeds.due(connected, served, now):
            self._outside.dial(None, (address,))

    def _refresh(self, now: float) -> None:
        self._refresh_at = now + self._machine.refresh_s()
        if Slot.OFFER in self._published:
            self.publish(self._published[Slot.OFFER])
