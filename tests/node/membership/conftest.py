"""Membership machines in virtual time, over links that can be cut; messages travel as their real bytes."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import (
    Dial,
    Drop,
    Effect,
    MakeClaim,
    Member,
    MemberChanged,
    MemberState,
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
    VerifiedClaim,
    VerifiedRevocation,
    VerifiedState,
)
from meshd_node.core.membership.machine import Membership
from meshd_node.core.membership.sifting import is_newer, wants_of
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.framing import Frame, Message
from meshd_protocol.ids import MeshId, NodeId
from meshd_protocol.limits import FRAME_HEADER_BYTES
from meshd_protocol.messages.membership import (
    Load,
    Rumours,
    SignedClaim,
    SignedRevocation,
    SignedState,
    States,
)
from meshd_protocol.messages.peer import PEER
from meshd_protocol.records import (
    CageLevel,
    Claim,
    Core,
    Offer,
    Phase,
    Revocation,
    Slot,
    State,
    Version,
    decode_record,
    encode_record,
)

MESH = MeshId(b"m" * 20)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
LATENCY_S = 0.02
TLS_RECORD_BYTES = 22


def node_of(index: int) -> NodeId:
    return NodeId(sha256(index.to_bytes(4, "big")).digest()[:20])


def certified(node: NodeId) -> Certified:
    return Certified(MESH, node, "lab", frozenset({Role.WORKER}), KEY, 0.0, 1e10, (b"certificate",))


def core(index: int) -> Core:
    return Core([b"c" * 450], f"node{index}", [f"10.{index >> 8}.{index & 255}.1:7423"], "1")


def offer(phase: Phase = Phase.ALIVE, cpu_milli: int = 1000) -> Offer:
    return Offer(phase, cpu_milli, 1 << 30, [], 1, ["3.11"], "Linux", 1, CageLevel.NONE, True)


def verified(node: NodeId, version: Version, content: Core | Offer) -> VerifiedState:
    slot = Slot.CORE if isinstance(content, Core) else Slot.OFFER
    state = State(MESH, node, slot, version, encode_record(content))
    return VerifiedState(SignedState(encode_record(state), bytes(64)), state, content, certified(node))


def reverified(signed: SignedState) -> VerifiedState:
    state = decode_record(State, signed.body)
    content = decode_record(Core if state.slot is Slot.CORE else Offer, state.content)
    return VerifiedState(signed, state, content, certified(NodeId(state.publisher)))


def claimed(claim: Claim) -> VerifiedClaim:
    return VerifiedClaim(SignedClaim(encode_record(claim), bytes(64)), claim)


def revocation(node: NodeId, operator: str = "lab", until_ms: int = 1) -> VerifiedRevocation:
    record = Revocation(MESH, node, operator, until_ms, "")
    return VerifiedRevocation(SignedRevocation(encode_record(record), bytes(64), b""), record)


class Host:
    """One machine and what its shell would keep."""

    def __init__(self, node: NodeId, seed: int, config: MembershipConfig, epoch: int) -> None:
        self.node = node
        self.machine = Membership(node, random.Random(seed), config)
        self.version = Version(epoch, 0)
        self.offer = offer()
        self.sessions: dict[NodeId, None] = {}
        self.changes: list[Member] = []
        self.sent: Counter[type[Message]] = Counter()
        self.wake_at: float | None = None

    def next_version(self) -> Version:
        self.version = Version(self.version.epoch, self.version.sequence + 1)
        return self.version


class World:
    """Hosts by number. `side` says which of them can reach each other."""

    def __init__(self, seed: int = 0, config: MembershipConfig | None = None) -> None:
        self.now = 0.0
        self.config = config or MembershipConfig()
        self.hosts: dict[NodeId, Host] = {}
        self.side: Callable[[NodeId], object] = lambda _: None
        self._seed = seed
        self._serial = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._verified: dict[bytes, VerifiedState] = {}

    # --- what tests do ---

    def start(self, index: int, epoch: int = 1, *, via: int | None = None) -> Host:
        node = node_of(index)
        host = self.hosts[node] = Host(node, self._seed * 1_000_003 + index, self.config, epoch)
        self.publish(index, core(index))
        self.publish(index, offer())
        if via is not None:
            self.connect(index, via)
        return host

    def start_many(self, count: int, seconds: float = 30.0) -> None:
        self.start(0)
        for index in range(1, count):
            self.start(index, via=0)
        self.run(seconds)

    def host(self, index: int) -> Host:
        return self.hosts[node_of(index)]

    def publish(self, index: int, content: Core | Offer) -> None:
        host = self.host(index)
        if isinstance(content, Offer):
            host.offer = content
        self.feed(host, Published(verified(host.node, host.next_version(), content)))

    def revoke(self, at: int, index: int) -> None:
        self.feed(self.host(at), Revoked([revocation(node_of(index))]))

    def connect(self, a: int, b: int) -> None:
        self._session(self.host(a), self.host(b))

    def kill(self, index: int, *, silent: bool = False) -> None:
        """The process dies; its peers see their connections end at once, or never if its machine dies with it."""
        host = self.hosts.pop(node_of(index))
        for node in host.sessions:
            if not silent:
                self._end(self.hosts[node], host.node, refused=True)

    def split(self, side: Callable[[NodeId], object]) -> None:
        self.side = side
        for host in list(self.hosts.values()):
            for node in list(host.sessions):
                if side(node) != side(host.node):
                    self._end(host, node, refused=False)

    def heal(self) -> None:
        self.side = lambda _: None

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def run_until(self, done: Callable[[], bool], seconds: float, step: float = 0.1) -> float:
        """How long it took, infinity if it did not happen."""
        began = self.now
        while self.now < began + seconds:
            if done():
                return self.now - began
            self.run(step)
        return float("inf")

    def state(self, viewer: int, target: int) -> MemberState | None:
        member = self.host(viewer).machine.member(node_of(target))
        return None if member is None else member.state

    def agrees(self, share: float = 1.0) -> bool:
        """Whether so large a share of the hosts sees all hosts as living, and nobody else."""
        everybody = set(self.hosts)
        seeing = sum(self.living(host) == everybody for host in self.hosts.values())
        return seeing >= share * len(everybody)

    def living(self, host: Host) -> set[NodeId]:
        gone = (MemberState.DEAD, MemberState.LEFT, MemberState.REVOKED)
        return {member.node for member in host.machine.members() if member.state not in gone}

    def sent_bytes(self) -> Counter[type[Message]]:
        total: Counter[type[Message]] = Counter()
        for host in self.hosts.values():
            total += host.sent
        return total

    def load(self, index: int, load: Load) -> None:
        self.feed(self.host(index), LoadChanged(load))

    def tick(self, host: Host) -> None:
        self.feed(host, Tick())

    def tell(self, a: int, b: int, states: list[VerifiedState]) -> None:
        """As if a comparison of `b` with `a` had brought these."""
        self.feed(self.host(b), NewsArrived(node_of(a), [], [], states, b"", True))

    def send(self, a: int, b: int, message: Outgoing) -> None:
        self._perform(self.host(a), Send(node_of(b), message))

    # --- the shells ---

    def feed(self, host: Host, event: Event) -> None:
        if self.hosts.get(host.node) is host:
            for effect in host.machine.handle(event, self.now):
                self._perform(host, effect)

    def _perform(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(node, message):
                if node in host.sessions:
                    data = PEER.encode(message)
                    host.sent[type(message)] += len(data) + TLS_RECORD_BYTES
                    self.later(LATENCY_S, lambda: self._arrive(host.node, node, data))
            case Dial(node, addresses):
                assert addresses, "dialled no address"
                self.later(3 * LATENCY_S, lambda: self._dialled(host, node))
            case Drop(node):
                other = self.hosts.get(node)
                self._end(host, node, refused=False)
                if other is not None:
                    self._end(other, host.node, refused=False)
            case MakeClaim(claim):
                self.feed(host, ClaimMade(claimed(claim)))
            case PublishAnew(above):
                host.version = max(host.version, above)
                self.feed(host, Published(verified(host.node, host.next_version(), host.offer)))
            case MemberChanged(member):
                host.changes.append(member)
            case Wake(at):
                assert at >= self.now, "a wake in the past"
                host.wake_at = at
                self.later(at - self.now, lambda: self._tick(host, at))

    def _tick(self, host: Host, at: float) -> None:
        if host.wake_at == at:
            host.wake_at = None
            self.feed(host, Tick())

    def _arrive(self, sender: NodeId, receiver: NodeId, data: bytes) -> None:
        host = self.hosts.get(receiver)
        if host is None or sender not in host.sessions:
            return
        message = PEER.decode(Frame(data[4], 0, data[FRAME_HEADER_BYTES:]))
        match message:
            case Rumours(revocations, claims, states, digests):
                self._news(host, sender, revocations, claims, states, digests, answer=False)
            case States(states, revocations):
                self._news(host, sender, revocations, [], states, b"", answer=True)
            case _:
                self.feed(host, MessageArrived(sender, message))

    def _news(
        self,
        host: Host,
        sender: NodeId,
        revocations: list[SignedRevocation],
        claims: list[SignedClaim],
        states: list[SignedState],
        digests: bytes,
        *,
        answer: bool,
    ) -> None:
        known, unproved = [], {}
        proved = set()
        for state in map(self._reverified, states):
            publisher = state.state.publisher
            if not is_newer(host.machine, state.state):
                continue
            if state.state.slot is Slot.OFFER and publisher not in proved and host.machine.member(publisher) is None:
                unproved[publisher] = None
                continue
            proved.add(publisher)
            known.append(state)
        self.feed(
            host,
            NewsArrived(
                sender,
                [VerifiedRevocation(each, decode_record(Revocation, each.body)) for each in revocations],
                [VerifiedClaim(each, decode_record(Claim, each.body)) for each in claims],
                known,
                digests,
                answer,
            ),
        )
        if unproved:
            self._perform(host, Send(sender, wants_of(unproved)))

    def _reverified(self, signed: SignedState) -> VerifiedState:
        held = self._verified.get(signed.body)
        if held is None:
            held = self._verified[signed.body] = reverified(signed)
        return held

    def _dialled(self, host: Host, node: NodeId) -> None:
        if self.hosts.get(host.node) is not host or node in host.sessions:
            return
        other = self.hosts.get(node)
        if self.side(host.node) != self.side(node):
            self.later(3.0, lambda: self.feed(host, DialFailed(node, refused=False)))
        elif other is None:
            self.feed(host, DialFailed(node, refused=True))
        else:
            self._session(host, other)

    def _session(self, a: Host, b: Host) -> None:
        a.sessions[b.node] = b.sessions[a.node] = None
        self.feed(a, PeerUp(b.node))
        self.feed(b, PeerUp(a.node))

    def _end(self, host: Host, node: NodeId, *, refused: bool) -> None:
        if node in host.sessions:
            del host.sessions[node]
            self.feed(host, PeerDown(node, refused))

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._serial), action))


@pytest.fixture
def new_world() -> type[World]:
    return World


class MembersKit:
    """What tests make members of."""

    node_of = staticmethod(node_of)
    core = staticmethod(core)
    offer = staticmethod(offer)
    verified = staticmethod(verified)
    revocation = staticmethod(revocation)
    claimed = staticmethod(claimed)
    mesh = MESH


@pytest.fixture(scope="session")
def members_kit() -> type[MembersKit]:
    return MembersKit
