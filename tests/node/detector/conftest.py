"""One failure detector with a real roster, its peers played by the test; and a mesh of them in virtual time."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.detector import Detector, ProbeMessage
from meshd_node.core.membership.effects import Dial, Effect, MakeClaim, MemberChanged, MemberState, PublishAnew, Send
from meshd_node.core.membership.events import VerifiedClaim, VerifiedState
from meshd_node.core.membership.roster import Roster
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.ids import MeshId, NodeId
from meshd_protocol.messages.membership import (
    Load,
    Probe,
    ProbeAck,
    ProbeReport,
    ProbeRequest,
    SignedClaim,
    SignedState,
    States,
)
from meshd_protocol.records import Claim, Core, Slot, State, Verdict, Version, encode_record

MESH = MeshId(b"m" * 20)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
LATENCY_S = 0.02


def node_of(index: int) -> NodeId:
    return NodeId(index.to_bytes(20, "big"))


def state_of(
    node: NodeId, sequence: int, epoch: int = 1, addresses: Iterable[str] = ("127.0.0.1:7423",)
) -> VerifiedState:
    core = Core([b"certificate"], "", list(addresses), "1")
    state = State(MESH, node, Slot.CORE, Version(epoch, sequence), encode_record(core))
    certified = Certified(MESH, node, "lab", frozenset({Role.WORKER}), KEY, 0.0, 1e10, (b"certificate",))
    return VerifiedState(SignedState(encode_record(state), bytes(64)), state, core, certified)


def claim_of(accuser: NodeId, accused: NodeId, verdict: Verdict, sequence: int = 1, epoch: int = 1) -> VerifiedClaim:
    claim = Claim(MESH, accuser, accused, Version(epoch, sequence), verdict)
    return VerifiedClaim(SignedClaim(encode_record(claim), bytes(64)), claim)


class Watcher:
    """Node 0 with its detector. What it asks for is kept in the lists; its claims are signed at once."""

    def __init__(self, index: int = 0, seed: int = 0, config: MembershipConfig | None = None) -> None:
        self.node = node_of(index)
        self.config = config or MembershipConfig()
        self.roster = Roster(self.node, self.config)
        self.spread: list[VerifiedClaim] = []
        self.detector = Detector(self.node, random.Random(f"{index}/{seed}"), self.config, self.roster, self)
        self.now = 0.0
        self.sent: list[tuple[NodeId, ProbeMessage]] = []
        # States that went to whoever had missed them; who receives them is the machine's concern.
        self.caught_up: list[tuple[NodeId, list[SignedState]]] = []
        self.dials: list[NodeId] = []
        self.claims: list[Claim] = []
        self.anew: list[Version] = []
        self.effects: list[Effect] = []
        self.probed = 0
        self.publish(self.node)

    def claim(self, claim: VerifiedClaim, now: float) -> None:
        """What the detector tells others."""
        assert now == self.now
        self.spread.append(claim)

    def publish(self, node: NodeId, sequence: int = 1, epoch: int = 1, addresses: Iterable[str] = ("h:1",)) -> None:
        """A state of a member comes, newer or not."""
        news = self.roster.accept(state_of(node, sequence, epoch, addresses), self.now)
        if news is not None:
            self.take(self.moved())
            if news.newest:
                self.take(self.detector.refuted(news.entry, self.now))
        self.take([])

    def join(self, *indices: int, linked: bool = True) -> None:
        """Members come, each with a session."""
        for index in indices:
            self.publish(node_of(index))
            if linked:
                self.up(index)

    def moved(self) -> list[Effect]:
        effects: list[Effect] = []
        while self.roster.moves:
            entry, living = self.roster.moves.pop(0)
            tell = self.detector.member_joined if living else self.detector.member_gone
            effects += tell(entry, self.now)
        return effects

    def take(self, effects: list[Effect]) -> None:
        """Perform what was asked for, and settle."""
        effects = [*effects, *self.moved(), *self.detector.settle(self.now)]
        for effect in effects:
            match effect:
                case Send(node, States(states)):
                    self.caught_up.append((node, states))
                case Send(node, message):
                    assert isinstance(message, Probe | ProbeAck | ProbeRequest | ProbeReport)
                    self.sent.append((node, message))
                case Dial(node):
                    self.dials.append(node)
                case MakeClaim(claim):
                    self.claims.append(claim)
                    made = VerifiedClaim(SignedClaim(encode_record(claim), bytes(64)), claim)
                    self.take(self.detector.claim_made(made, self.now))
                case PublishAnew(version):
                    self.anew.append(version)
                case _:
                    self.effects.append(effect)

    # --- what the test plays --------------------------------------------------------------------------------------

    def up(self, index: int) -> None:
        self.take(self.detector.peer_up(node_of(index), self.now))

    def down(self, index: int, *, refused: bool = False) -> None:
        self.take(self.detector.peer_down(node_of(index), self.now, refused=refused))

    def dial_failed(self, index: int, *, refused: bool = False) -> None:
        self.take(self.detector.dial_failed(node_of(index), self.now, refused=refused))

    def hear(self, index: int, message: ProbeMessage) -> None:
        self.take(self.detector.message(node_of(index), message, self.now))

    def told(self, *claims: VerifiedClaim) -> None:
        self.take(self.detector.claims(claims, self.now))

    def wait(self, until: float, answering: Iterable[int] = (), reporting: bool | None = None) -> None:
        """Let time pass. Those `answering` acknowledge each probe; helpers report what `reporting` says."""
        alive = {node_of(index) for index in answering}
        self._play(alive, reporting)
        while self.detector.next_at() <= until:
            self.now = max(self.now, self.detector.next_at())
            self.take(self.detector.tick(self.now))
            self._play(alive, reporting)
        self.now = until

    def _play(self, alive: set[NodeId], reporting: bool | None) -> None:
        played, self.sent = self.sent, []
        for node, message in played:
            if isinstance(message, Probe) and node in alive:
                self.take(self.detector.message(node, ProbeAck(message.sequence, Load(1, 2)), self.now))
            elif isinstance(message, ProbeRequest) and reporting is not None:
                self.take(self.detector.message(node, ProbeReport(message.sequence, reporting), self.now))
        self.played = played

    # --- what came of it ------------------------------------------------------------------------------------------

    def state(self, index: int) -> MemberState:
        entry = self.roster.get(node_of(index))
        assert entry is not None
        return entry.state

    def of_kind(self, kind: type[ProbeMessage]) -> list[tuple[NodeId, ProbeMessage]]:
        return [(node, message) for node, message in self.sent if isinstance(message, kind)]


class Net:
    """Watchers in virtual time. Links have a latency and may stall; claims and states reach everybody soon."""

    def __init__(self, size: int, seed: int, config: MembershipConfig | None = None) -> None:
        self.rng = random.Random(f"net/{seed}")
        self.now = 0.0
        self.hosts = {node_of(index): Watcher(index, seed, config) for index in range(size)}
        self.gone: set[NodeId] = set()
        self.stalled: dict[frozenset[NodeId], float] = {}
        self.deaths: list[tuple[float, NodeId, NodeId]] = []
        self._versions = dict.fromkeys(self.hosts, 1)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._wakes: dict[NodeId, float] = {}
        for host in self.hosts.values():
            for node in self.hosts:
                host.publish(node)
        for host in self.hosts.values():
            self._perform(host)

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._serial), act))

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, act = heapq.heappop(self._heap)
            act()
        self.now = until

    def crash(self, node: NodeId) -> None:
        """The machine is gone: its links fall silent."""
        self.gone.add(node)

    def tell(self, node: NodeId, claim: VerifiedClaim, pause_s: float) -> None:
        """A rumour reaches a node after a pause; its shell drops what it holds already."""
        said = claim.claim

        def hear(host: Watcher) -> None:
            if not host.detector.holds_claim(said.accuser, said.accused, said.version, said.verdict):
                host.told(claim)

        self.at(self.now + pause_s, lambda: self._enter(node, hear))

    def believed_dead(self, node: NodeId) -> list[float]:
        return [at for at, accused, _ in self.deaths if accused == node]

    def _enter(self, node: NodeId, act: Callable[[Watcher], None]) -> None:
        if node in self.gone:
            return
        host = self.hosts[node]
        host.now = self.now
        act(host)
        self._perform(host)

    def _perform(self, host: Watcher) -> None:
        sent, host.sent = host.sent, []
        for node, message in sent:
            self._send(host.node, node, message)
        dials, host.dials = host.dials, []
        for node in dials:
            self.at(self.now + 3 * LATENCY_S, lambda node=node: self._connect(host.node, node))
        spread, host.spread = host.spread, []
        for claim in spread:
            for node in self.hosts:
                if node != host.node:
                    self.tell(node, claim, self.rng.uniform(0.05, 0.5))
        anew, host.anew = host.anew, []
        if anew:
            self._versions[host.node] = max(self._versions[host.node], max(anew).sequence) + 1
            for node in self.hosts:
                pause = 0.0 if node == host.node else self.rng.uniform(0.05, 0.5)
                sequence = self._versions[host.node]
                self.at(self.now + pause, lambda n=node, s=sequence: self._enter(n, lambda h: h.publish(host.node, s)))
        effects, host.effects = host.effects, []
        for effect in effects:
            if isinstance(effect, MemberChanged) and effect.member.state is MemberState.DEAD:
                self.deaths.append((self.now, effect.member.node, host.node))
        at = host.detector.next_at()
        if self._wakes.get(host.node, -1.0) != at and at < 1e9:
            self._wakes[host.node] = at
            self.at(at, lambda: self._wake(host.node, at))

    def _wake(self, node: NodeId, at: float) -> None:
        if self._wakes.get(node) == at:
            self._wakes[node] = -1.0
            self._enter(node, lambda host: host.take(host.detector.tick(host.now)))

    def _send(self, sender: NodeId, receiver: NodeId, message: ProbeMessage) -> None:
        stalled_until = self.stalled.get(frozenset((sender, receiver)), 0.0)
        at = max(self.now, stalled_until) + LATENCY_S * self.rng.uniform(0.5, 1.5)

        def arrive(host: Watcher) -> None:
            host.probed += isinstance(message, Probe)
            host.take(host.detector.message(sender, message, host.now))

        self.at(at, lambda: self._enter(receiver, arrive))

    def _connect(self, dialler: NodeId, node: NodeId) -> None:
        if node in self.gone:

            def fail(host: Watcher) -> None:
                host.take(host.detector.dial_failed(node, host.now, refused=False))

            self.at(self.now + 5.0, lambda: self._enter(dialler, fail))
            return
        for one, other in ((dialler, node), (node, dialler)):
            if other not in self.hosts[one].detector.connected:
                self._enter(one, lambda host, other=other: host.take(host.detector.peer_up(other, host.now)))


@pytest.fixture
def watcher() -> Callable[..., Watcher]:
    return Watcher


@pytest.fixture
def net() -> Callable[..., Net]:
    return Net


@pytest.fixture
def claim() -> Callable[..., VerifiedClaim]:
    def made(accuser: int, accused: int, verdict: Verdict, sequence: int = 1, epoch: int = 1) -> VerifiedClaim:
        return claim_of(node_of(accuser), node_of(accused), verdict, sequence, epoch)

    return made
