"""A few membership machines in virtual time, over links that can be cut; messages travel as their real bytes."""

import heapq
import itertools
import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Dial, Effect, Member, MemberChanged, MemberState, Send, Wake
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
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.framing import FrameReader
from meshd_protocol.ids import MeshId, NodeId
from meshd_protocol.messages.peer import PEER, SignedState, StateDigests, States, StateWants
from meshd_protocol.records import (
    CageLevel,
    Core,
    Offer,
    Phase,
    Slot,
    State,
    Version,
    decode_record,
    encode_record,
)

MESH = MeshId(b"m" * 20)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
LATENCY_S = 0.01


def node_of(index: int) -> NodeId:
    return NodeId(index.to_bytes(20, "big"))


def certified(node: NodeId) -> Certified:
    return Certified(MESH, node, "lab", frozenset({Role.WORKER}), KEY, 0.0, 1e10, (b"certificate",))


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


class Host:
    """One machine and what its shell would keep."""

    def __init__(self, node: NodeId, seed: int, config: MembershipConfig, epoch: int) -> None:
        self.node = node
        self.machine = Membership(node, random.Random(seed), config)
        self.version = Version(epoch, 0)
        self.sessions: set[NodeId] = set()
        self.changes: list[Member] = []
        self.wake_at: float | None = None
        self.listens = True

    def next_version(self) -> Version:
        self.version = Version(self.version.epoch, self.version.sequence + 1)
        return self.version


class World:
    """Hosts by number. `cut` holds the pairs that can not reach each other."""

    def __init__(self, seed: int = 0, config: MembershipConfig | None = None) -> None:
        self.now = 0.0
        self.config = config or MembershipConfig()
        self.hosts: dict[NodeId, Host] = {}
        self.cut: set[frozenset[NodeId]] = set()
        self.sent: list[tuple[NodeId, NodeId, object]] = []
        self._seed = seed
        self._serial = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    # --- what tests do ---

    def start(self, index: int, epoch: int = 1, *, addresses: bool = True) -> Host:
        host = Host(node_of(index), self._seed * 1000 + index, self.config, epoch)
        self.hosts[host.node] = host
        listen = [f"10.0.0.{index}:7423"] if addresses else []
        self.publish(index, Core([b"certificate"], f"node{index}", listen, "1"))
        self.publish(index, offer())
        self._refresh(host)
        return host

    def host(self, index: int) -> Host:
        return self.hosts[node_of(index)]

    def publish(self, index: int, content: Core | Offer) -> None:
        host = self.host(index)
        self.feed(host, Published(verified(host.node, host.next_version(), content)))

    def connect(self, a: int, b: int) -> None:
        self._session(self.host(a), self.host(b))

    def kill(self, index: int) -> None:
        """The process dies; its peers see their connections end at once and redials are refused."""
        host = self.hosts.pop(node_of(index))
        for node in sorted(host.sessions):
            self._end(self.hosts[node], host.node, refused=True)

    def separate(self, a: int, b: int) -> None:
        """Packets between two hosts vanish, as between two that sit behind different NATs."""
        self.cut.add(frozenset((node_of(a), node_of(b))))
        self._end(self.host(a), node_of(b), refused=False)
        self._end(self.host(b), node_of(a), refused=False)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def state(self, viewer: int, target: int) -> MemberState | None:
        member = self.host(viewer).machine.member(node_of(target))
        return None if member is None else member.state

    # --- the shells ---

    def feed(self, host: Host, event: Event) -> None:
        if self.hosts.get(host.node) is host:
            for effect in host.machine.handle(event, self.now):
                self._perform(host, effect)

    def _perform(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(node, message):
                if node in host.sessions:
                    self.sent.append((host.node, node, message))
                    self._later(LATENCY_S, lambda: self._arrive(host.node, node, PEER.encode(message)))
            case Dial(node, addresses):
                assert node not in host.sessions, "dialled a peer"
                assert addresses, "dialled no address"
                self._later(LATENCY_S, lambda: self._dialled(host, node))
            case MemberChanged(member):
                host.changes.append(member)
            case Wake(at):
                host.wake_at = at
                self._later(max(0.0, at - self.now), lambda: self._tick(host, at))

    def _tick(self, host: Host, at: float) -> None:
        if host.wake_at == at:
            self.feed(host, Tick())

    def _arrive(self, sender: NodeId, receiver: NodeId, data: bytes) -> None:
        host = self.hosts.get(receiver)
        if host is None or sender not in host.sessions:
            return
        reader = FrameReader(PEER.frame_bytes_max)
        reader.feed(data)
        for frame in reader.frames():
            message = PEER.decode(frame)
            if isinstance(message, StateDigests):
                self.feed(host, DigestsArrived(sender, message.digests))
            elif isinstance(message, StateWants):
                self.feed(host, WantsArrived(sender, message.wants))
            elif isinstance(message, States):
                self.feed(host, StatesArrived(sender, [reverified(signed) for signed in message.states]))

    def _dialled(self, host: Host, node: NodeId) -> None:
        other = self.hosts.get(node)
        if node in host.sessions:
            return
        unreachable = frozenset((host.node, node)) in self.cut
        if other is None or not other.listens or unreachable:
            self.feed(host, DialFailed(node, refused=not unreachable))
        else:
            self._session(host, other)

    def _session(self, a: Host, b: Host) -> None:
        a.sessions.add(b.node)
        b.sessions.add(a.node)
        self.feed(a, PeerUp(b.node))
        self.feed(b, PeerUp(a.node))

    def _end(self, host: Host, node: NodeId, *, refused: bool) -> None:
        if node in host.sessions:
            host.sessions.remove(node)
            self.feed(host, PeerDown(node, refused))

    def _refresh(self, host: Host) -> None:
        self._later(host.machine.refresh_s(), lambda: self._refreshed(host))

    def _refreshed(self, host: Host) -> None:
        if self.hosts.get(host.node) is host:
            said = host.machine.member(host.node)
            assert said is not None
            assert said.offer is not None
            self.feed(host, Published(verified(host.node, host.next_version(), said.offer)))
            self._refresh(host)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._serial), action))


@pytest.fixture
def new_world() -> type[World]:
    return World
