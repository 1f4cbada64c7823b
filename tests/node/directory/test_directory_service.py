"""The shell: what is signed is checked, who is asked is reached, who lies is found out. Real keys and real bytes."""

import itertools
import random
from collections import deque
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.events import Tick
from meshd_node.core.directory.machine import Directory
from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.seams import KeySigner, Seams
from meshd_node.services.directory.service import QUESTIONS_BURST, DirectoryService, DirectorySetup
from meshd_node.services.lookup.directory import Search
from meshd_protocol.certificates import Certified, Role, verify_node_chain
from meshd_protocol.errors import BadSignature, MalformedMessage
from meshd_protocol.framing import Frame, Message
from meshd_protocol.ids import JobId, Key, MeshId, NodeId, mesh_id, node_id, record_key
from meshd_protocol.issuing import Signer, issue_node
from meshd_protocol.limits import FRAME_HEADER_BYTES
from meshd_protocol.messages.directory import (
    Contact,
    Contacts,
    FindNode,
    FindValue,
    SignedRecord,
    Store,
    Stored,
    StoreOutcome,
    Values,
)
from meshd_protocol.messages.peer import PEER
from meshd_protocol.names import NodeName
from meshd_protocol.records import (
    CageLevel,
    ContactValue,
    Core,
    DirectoryKind,
    DirectoryRecord,
    JobValue,
    Offer,
    Phase,
    Version,
    decode_record,
    encode_record,
)
from meshd_protocol.signing import Domain, sign

WALL = 1_800_000_000.0
ROOT = Ed25519PrivateKey.from_private_bytes(bytes(32))
ROOT_KEY = ROOT.public_key().public_bytes_raw()
MESH = mesh_id(ROOT_KEY)
CONTACT = DirectoryKind.CONTACT


class Identity:
    def __init__(self, index: int) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(index.to_bytes(32, "big"))
        public = self.key.public_key()
        self.node = node_id(public.public_bytes_raw(), bytes(16))
        name = NodeName(MESH, self.node, "lab", frozenset({Role.WORKER}), bytes(16))
        self.certificate = issue_node(Signer.root(ROOT), public, name, index + 1, WALL)
        self.certified: Certified = verify_node_chain(ROOT_KEY, [self.certificate], WALL)

    def record(
        self,
        value: bytes,
        version: int = 1,
        *,
        name: bytes | None = None,
        kind: DirectoryKind = CONTACT,
        mesh: MeshId = MESH,
        ends_in: float = 100.0,
        domain: Domain = Domain.RECORD,
    ) -> SignedRecord:
        expires_ms = int((WALL + ends_in) * 1_000)
        named = self.node if name is None else name
        body = encode_record(DirectoryRecord(mesh, kind, named, self.node, Version(9, version), expires_ms, value))
        return SignedRecord(body, sign(self.key, domain, body).signature, [self.certificate])

    def store(self, *args: object, **kwargs: object) -> Store:
        signed = self.record(*args, **kwargs)
        return Store(0, signed.body, signed.signature)


class FakeLink:
    """One side's end of a session; what is sent travels when the wire is pumped."""

    def __init__(self, world: "World", owner: NodeId, peer: Certified) -> None:
        self.world = world
        self.owner = owner
        self.peer = peer
        self.sent: list[tuple[Message, int]] = []

    def send(self, message: Message, stream: int = 0) -> int:
        frame = PEER.encode(message, stream)
        self.sent.append((message, stream))
        self.world.wire.append((self.owner, self.peer.node, frame))
        return len(frame)


class Node:
    """One service with all that it needs around it."""

    def __init__(self, world: "World", index: int) -> None:
        self.world = world
        self.identity = Identity(index)
        self.node = self.identity.node
        self.address = f"10.0.0.{index}:7423"
        self.links: dict[NodeId, FakeLink] = {}
        self.dialled: list[tuple[NodeId | None, tuple[str, ...]]] = []
        self.members: dict[NodeId, Member] = {}
        chance = random.Random(index)
        seams = Seams(KeySigner(self.identity.key), lambda: world.now, lambda: WALL + world.now, chance)
        self.machine = Directory(self.node, chance, world.config)
        self.service = DirectoryService(
            self.machine,
            DirectorySetup(certified=self.identity.certified, root_key=ROOT_KEY, boot_epoch=1),
            self,
            self,
            seams,
        )

    def member(self, node: NodeId) -> Member | None:
        return self.members.get(node)

    def link(self, node: NodeId) -> FakeLink | None:
        return self.links.get(node)

    def dial(self, node: NodeId | None, addresses: Sequence[str]) -> None:
        self.dialled.append((node, tuple(addresses)))
        self.world.dials.append((self, node, tuple(addresses)))

    def flush(self) -> None:
        pass

    def know(self, other: "Node", state: MemberState = MemberState.ALIVE) -> None:
        core = Core([other.identity.certificate], "n", [other.address], "1")
        member = Member(other.node, state, other.identity.certified, core, None, Version(1, 1), 0.0)
        self.members[other.node] = member
        self.service.member_changed(member)

    def tick(self) -> None:
        self.service._handle(Tick())


class World:
    def __init__(self, config: DirectoryConfig | None = None) -> None:
        self.config = config or DirectoryConfig(settle_s=1.0)
        self.now = 0.0
        self.nodes: dict[NodeId, Node] = {}
        self.wire: deque[tuple[NodeId, NodeId, bytes]] = deque()
        self.dials: deque[tuple[Node, NodeId | None, tuple[str, ...]]] = deque()
        self._indices = itertools.count(1)

    def add(self) -> Node:
        node = Node(self, next(self._indices))
        self.nodes[node.node] = node
        return node

    def connect(self, a: Node, b: Node) -> None:
        for one, other in ((a, b), (b, a)):
            one.links[other.node] = FakeLink(self, one.node, other.identity.certified)
        a.service.link_up(a.links[b.node])
        b.service.link_up(b.links[a.node])

    def pump(self) -> None:
        """Let everything happen that needs no time."""
        while self.wire or self.dials:
            if self.dials:
                node, wanted, addresses = self.dials.popleft()
                other = next((each for each in self.nodes.values() if each.address in addresses), None)
                if other is not None and other.node == wanted:
                    self.connect(node, other)
                elif wanted is not None:
                    node.service.dial_failed(wanted)
                continue
            sender, receiver, frame = self.wire.popleft()
            message = PEER.decode(Frame(frame[4], 0, frame[FRAME_HEADER_BYTES:]))
            link = self.nodes[receiver].links[sender]
            self.nodes[receiver].service.message(link, message, int.from_bytes(frame[5:9], "big"))

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.now += 0.25
            for node in self.nodes.values():
                node.tick()
            self.pump()


def mesh(count: int, config: DirectoryConfig | None = None) -> tuple[World, list[Node]]:
    """Nodes that all know each other, and have published."""
    world = World(config)
    nodes = [world.add() for _ in range(count)]
    for node, other in itertools.permutations(nodes, 2):
        node.know(other)
    for node in nodes:
        node.service.introduce(Core([node.identity.certificate], "n", [node.address], "1"), node.identity.certified)
    world.run(3.0)
    return world, nodes


def found(node: Node, world: World, looked_for: NodeId) -> Search:
    searches: list[Search] = []
    node.service.find_contact(looked_for, searches.append)
    world.run(4.0)
    assert len(searches) == 1
    return searches[0]


def addresses(search: Search) -> list[list[str]]:
    return [decode_record(ContactValue, record.value).addresses for record in search.records]


def stored(link: FakeLink) -> list[StoreOutcome]:
    return [message.outcome for message, _ in link.sent if isinstance(message, Stored)]


# --- what works ---------------------------------------------------------------------------------------------------


def test_what_one_node_publishes_another_finds_and_checks() -> None:
    world, nodes = mesh(4)
    search = found(nodes[0], world, nodes[3].node)

    assert addresses(search) == [[nodes[3].address]]
    assert nodes[3].node in search.answered_by
    assert search.asked > 0


def test_node_asks_those_it_has_no_session_with_by_dialling_where_they_said_they_are() -> None:
    _, nodes = mesh(3)

    assert (nodes[1].node, (nodes[1].address,)) in nodes[0].dialled or nodes[0].node in nodes[1].links


def test_jobs_capabilities_and_providers_are_found_by_name() -> None:
    world, nodes = mesh(4)
    job, blob = JobId(b"j" * 20), b"b" * 32
    nodes[0].service.own(job, 3, [nodes[1].node])
    nodes[0].service.provide(blob, 7)
    nodes[1].service.provide(blob, 7)
    nodes[2].service.announce(Offer(Phase.ALIVE, 8_000, 1 << 30, [], 4, ["3.11"], "Linux", 1, CageLevel.NONE, True))
    world.run(3.0)
    searches: list[Search] = []
    for kind, name in ((DirectoryKind.JOB, job), (DirectoryKind.PROVIDER, blob)):
        nodes[3].service.find_records(kind, name, searches.append)
    nodes[3].service.find_records(DirectoryKind.CAPABILITY, nodes[2].node, searches.append)
    world.run(4.0)

    jobs, providers, capabilities = searches
    assert [decode_record(JobValue, record.value) for record in jobs.records] == [JobValue(3, [nodes[1].node])]
    assert {record.publisher for record in providers.records} == {nodes[0].node, nodes[1].node}
    assert [record.publisher for record in capabilities.records] == [nodes[2].node]


def test_withdrawn_record_is_published_no_more() -> None:
    world, nodes = mesh(2, DirectoryConfig(settle_s=1.0, ttl_s=20.0, republish_s=5.0))
    blob = b"b" * 32
    nodes[0].service.provide(blob, 7)
    world.run(12.0)
    searches: list[Search] = []
    nodes[1].service.find_records(DirectoryKind.PROVIDER, blob, searches.append)
    nodes[0].service.withhold(blob)
    world.run(25.0)
    nodes[1].service.find_records(DirectoryKind.PROVIDER, blob, searches.append)
    world.run(3.0)

    assert [len(search.records) for search in searches] == [1, 0]


def test_member_that_moved_is_dialled_where_its_newest_record_says() -> None:
    world, nodes = mesh(4)
    lost = nodes[3]
    for node in nodes[:3]:
        node.links.pop(lost.node, None)
        lost.links.pop(node.node, None)
    lost.address = "10.9.9.9:7423"
    world.connect(lost, nodes[1])
    lost.service.introduce(Core([lost.identity.certificate], "n", [lost.address], "1"), lost.identity.certified)
    world.run(3.0)

    nodes[0].service.dial_failed(lost.node)
    world.run(4.0)

    assert (lost.node, (lost.address,)) in nodes[0].dialled
    assert lost.node in nodes[0].links


def test_node_that_stays_away_is_looked_for_now_and_then_only() -> None:
    world, nodes = mesh(3)
    gone = Identity(77)
    nodes[0].know(Node(world, 77))
    asked = len(nodes[0].dialled)
    for _ in range(10):
        nodes[0].service.dial_failed(gone.node)
        world.run(1.0)

    assert len([node for node, _ in nodes[0].dialled[asked:] if node == gone.node]) <= 3


def test_dead_and_revoked_members_leave_the_table() -> None:
    _, nodes = mesh(3)
    nodes[0].know(nodes[1], MemberState.DEAD)
    nodes[0].know(nodes[2], MemberState.REVOKED)

    assert nodes[0].machine.contacts() == 0
    key = record_key(CONTACT, 0, nodes[2].node)
    nodes[0].service.message(nodes[0].links[nodes[1].node], FindValue(key), 5)
    answer, stream = nodes[0].links[nodes[1].node].sent[-1]
    assert stream == 5
    assert isinstance(answer, Values)
    assert answer.records == []


def test_contact_that_was_given_up_comes_back_with_its_next_session() -> None:
    world, nodes = mesh(2)
    nodes[0].links.clear()
    for _ in range(2):
        nodes[0].service.find_contact(NodeId(b"x" * 20), lambda search: None)
        nodes[0].service.dial_failed(nodes[1].node)
    assert nodes[0].machine.contacts() == 0
    world.connect(nodes[0], nodes[1])

    assert nodes[0].machine.contacts() == 1


def test_session_that_ends_fails_what_was_asked_in_it() -> None:
    world, nodes = mesh(2)
    searches: list[Search] = []
    nodes[0].service.find_contact(NodeId(b"x" * 20), searches.append)
    assert not searches
    nodes[0].links.clear()
    nodes[0].service.link_down(FakeLink(world, nodes[0].node, nodes[1].identity.certified))

    assert len(searches) == 1


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> tuple[World, Node, Node]:
    world, nodes = mesh(2)
    return world, nodes[0], nodes[1]


def test_own_record_is_kept_and_found_in_the_answer(pair: tuple[World, Node, Node]) -> None:
    _, node, peer = pair
    link = node.links[peer.node]
    link.sent.clear()
    node.service.message(link, peer.identity.store(b"value", 10), 7)
    node.service.message(link, FindValue(record_key(CONTACT, 0, peer.node)), 8)

    assert link.sent[0] == (Stored(StoreOutcome.KEPT), 7)
    answer, stream = link.sent[1]
    assert stream == 8
    assert isinstance(answer, Values)
    assert [decode_record(DirectoryRecord, signed.body).value for signed in answer.records] == [b"value"]
    assert list(answer.records[0].certificates) == [peer.identity.certificate]


@pytest.mark.parametrize(
    ("bad", "outcome"),
    [
        ({"ends_in": -1.0}, StoreOutcome.OUT_OF_TIME),
        ({"ends_in": 25 * 3_600.0}, StoreOutcome.OUT_OF_TIME),
        ({"mesh": MeshId(b"x" * 20)}, StoreOutcome.NOT_YOURS),
        ({"name": b"x" * 20}, StoreOutcome.NOT_YOURS),
    ],
)
def test_bad_record_is_refused_by_name(
    pair: tuple[World, Node, Node], bad: dict[str, object], outcome: StoreOutcome
) -> None:
    _, node, peer = pair
    link = node.links[peer.node]
    link.sent.clear()
    node.service.message(link, peer.identity.store(b"v", 10, **bad), 7)

    assert stored(link) == [outcome]


def test_nobody_stores_for_another_though_the_signature_holds(pair: tuple[World, Node, Node]) -> None:
    """Only publishers republish: a record that others pass on would live for ever."""
    _, node, peer = pair
    link = node.links[peer.node]
    link.sent.clear()
    node.service.message(link, Identity(50).store(b"v", 10), 7)

    assert stored(link) == [StoreOutcome.NOT_YOURS]


def test_wrong_signature_in_a_store_ends_the_session(pair: tuple[World, Node, Node]) -> None:
    _, node, peer = pair
    store = peer.identity.store(b"v", 10)
    with pytest.raises(BadSignature):
        node.service.message(node.links[peer.node], replace_signature(store), 7)
    with pytest.raises(BadSignature):
        node.service.message(node.links[peer.node], peer.identity.store(b"v", 10, domain=Domain.STATE), 7)


def replace_signature(store: Store) -> Store:
    return Store(store.salt, store.body, bytes(64))


def test_body_that_is_no_record_is_the_senders_fault(pair: tuple[World, Node, Node]) -> None:
    _, node, peer = pair
    with pytest.raises(MalformedMessage):
        node.service.message(node.links[peer.node], Store(0, b"\x90", bytes(64)), 7)


def test_older_record_is_refused_before_its_signature_is_looked_at(pair: tuple[World, Node, Node]) -> None:
    _, node, peer = pair
    link = node.links[peer.node]
    node.service.message(link, peer.identity.store(b"new", 10), 7)
    link.sent.clear()
    node.service.message(link, replace_signature(peer.identity.store(b"old", 9)), 7)

    assert stored(link) == [StoreOutcome.OLDER]


def test_peer_that_asks_too_much_gets_no_answer(pair: tuple[World, Node, Node]) -> None:
    _, node, peer = pair
    link = node.links[peer.node]
    link.sent.clear()
    for stream in range(QUESTIONS_BURST + 100):
        node.service.message(link, FindNode(Key(bytes(20))), stream)

    assert 0 < len(link.sent) <= QUESTIONS_BURST


# --- liars --------------------------------------------------------------------------------------------------------


def ask_a_liar(lie: list[SignedRecord], contacts: Sequence[Contact] = ()) -> tuple[Search, Node, Node]:
    """One node looks for another's contact record; the only one it knows answers with a lie."""
    world = World()
    node, liar = world.add(), world.add()
    world.connect(node, liar)
    node.know(liar)
    searches: list[Search] = []
    node.service.find_contact(Identity(60).node, searches.append)
    questions = [(m, s) for m, s in node.links[liar.node].sent if isinstance(m, FindValue)]
    for _, stream in questions:
        node.service.message(node.links[liar.node], Values(lie, list(contacts)), stream)
    world.run(4.0)
    return searches[0], node, liar


def test_genuine_record_is_believed_whoever_has_it() -> None:
    search, _, _ = ask_a_liar([Identity(60).record(b"genuine")])

    assert [record.value for record in search.records] == [b"genuine"]


def test_forged_records_are_worth_nothing_and_neither_is_who_hands_them_out() -> None:
    genuine = Identity(60).record(b"genuine")
    other = Identity(61)
    body = encode_record(
        DirectoryRecord(MESH, CONTACT, Identity(60).node, Identity(60).node, Version(9, 9), int(WALL + 9) * 1_000, b"")
    )
    forgeries = [
        SignedRecord(genuine.body, bytes(64), genuine.certificates),
        SignedRecord(body, sign(other.key, Domain.RECORD, body).signature, genuine.certificates),
        SignedRecord(body, sign(other.key, Domain.RECORD, body).signature, [other.certificate]),
        Identity(60).record(b"genuine", domain=Domain.STATE),
        SignedRecord(genuine.body, genuine.signature, [b"no certificate"]),
    ]
    for forgery in forgeries:
        search, node, _ = ask_a_liar([forgery])
        assert search.records == []
        assert search.answered_by == []
        assert node.machine.contacts() == 0


def test_record_of_another_name_another_mesh_or_out_of_time_is_passed_over() -> None:
    useless = [
        Identity(61).record(b"another's"),
        Identity(60).record(b"of another kind", kind=DirectoryKind.CAPABILITY),
        Identity(60).record(b"of another mesh", mesh=MeshId(b"x" * 20)),
        Identity(60).record(b"expired", ends_in=-1.0),
        Identity(60).record(b"for ever", ends_in=1e6),
        SignedRecord(b"\x90", bytes(64), [b"c"]),
    ]
    search, node, _ = ask_a_liar(useless)

    assert search.records == []
    assert node.machine.contacts() == 1


def test_newest_of_what_is_found_stands() -> None:
    identity = Identity(60)
    search, _, _ = ask_a_liar([identity.record(b"old", 1), identity.record(b"new", 3), identity.record(b"older", 2)])

    assert [record.value for record in search.records] == [b"new"]


def test_answers_to_questions_that_were_not_asked_change_nothing() -> None:
    world, nodes = mesh(2)
    link = nodes[0].links[nodes[1].node]
    nodes[0].service.message(link, Values([Identity(60).record(b"x")], []), 9_999)
    nodes[0].service.message(link, Contacts([Contact(Identity(60).node, ["h:1"])]), 9_999)
    nodes[0].service.message(link, Stored(StoreOutcome.KEPT), 9_999)
    world.run(1.0)

    assert nodes[0].machine.contacts() == 1


def test_chain_that_was_verified_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from meshd_node.services.directory import checks

    verified = []
    genuine = checks.verify_node_chain
    monkeypatch.setattr(checks, "verify_node_chain", lambda *arguments: verified.append(1) or genuine(*arguments))
    identity = Identity(60)
    ask_a_liar([identity.record(b"a", 1), identity.record(b"b", 2), identity.record(b"b", 2)])

    assert len(verified) == 1
