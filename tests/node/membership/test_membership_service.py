import itertools
import random
from collections.abc import Callable, Sequence

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.seams import KeySigner, Seams
from meshd_node.services.membership import CHECKS_BURST, MembershipService, MembershipSetup
from meshd_protocol.certificates import Certified, Role, verify_node_chain
from meshd_protocol.errors import (
    BadSignature,
    CertificateOutOfDate,
    CertificateRefused,
    LocalProtocolError,
    MalformedMessage,
)
from meshd_protocol.ids import MeshId, NodeId, mesh_id, node_id
from meshd_protocol.issuing import Signer, issue_node
from meshd_protocol.messages.peer import SignedState, StateDigest, StateDigests, States, StateWants
from meshd_protocol.names import NodeName
from meshd_protocol.records import (
    CageLevel,
    Core,
    Gpu,
    Offer,
    Phase,
    Slot,
    State,
    Version,
    decode_record,
    encode_record,
)
from meshd_protocol.signing import Domain, sign

WALL = 1_800_000_000.0
ROOT = Ed25519PrivateKey.from_private_bytes(bytes(32))
ROOT_KEY = ROOT.public_key().public_bytes_raw()
MESH = mesh_id(ROOT_KEY)


class Identity:
    """A node's key and what certifies it."""

    def __init__(self, index: int, root: Ed25519PrivateKey = ROOT, wall: float = WALL) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(index.to_bytes(32, "big"))
        public = self.key.public_key()
        root_key = root.public_key().public_bytes_raw()
        self.node = node_id(public.public_bytes_raw(), bytes(16))
        name = NodeName(mesh_id(root_key), self.node, "lab", frozenset({Role.WORKER}), bytes(16))
        self.certificate = issue_node(Signer.root(root), public, name, index + 1, wall)
        self.certified: Certified = verify_node_chain(root_key, [self.certificate], wall)

    def state(self, content: Core | Offer, sequence: int = 1, epoch: int = 1, mesh: MeshId = MESH) -> SignedState:
        slot = Slot.CORE if isinstance(content, Core) else Slot.OFFER
        body = encode_record(State(mesh, self.node, slot, Version(epoch, sequence), encode_record(content)))
        return SignedState(body, sign(self.key, Domain.STATE, body).signature)

    def core(self, sequence: int = 1, epoch: int = 1, *, name: str = "n", addresses: Sequence[str] = ()) -> SignedState:
        return self.state(Core([self.certificate], name, list(addresses), "1"), sequence, epoch)


def offer(phase: Phase = Phase.ALIVE, gpus: int = 0) -> Offer:
    cards = [Gpu("u" * 200, "m" * 200, 1)] * gpus
    return Offer(phase, 1000, 1, cards, 1, ["3.11"], "Linux", 1, CageLevel.NONE, True)


class Recorder:
    """What the service asked of others."""

    def __init__(self) -> None:
        self.sent: list[tuple[NodeId, object]] = []
        self.dialled: list[tuple[NodeId | None, tuple[str, ...]]] = []
        self.changed: list[Member] = []

    def send(self, node: NodeId, message: object) -> None:
        self.sent.append((node, message))

    def dial(self, node: NodeId | None, addresses: Sequence[str]) -> None:
        self.dialled.append((node, tuple(addresses)))

    def member_changed(self, member: Member) -> None:
        self.changed.append(member)

    def flush(self) -> None:
        """Nothing is queued here."""

    def states(self) -> list[State]:
        return [
            decode_record(State, signed.body)
            for _, message in self.sent
            if isinstance(message, States)
            for signed in message.states
        ]


ME, ALICE, BOB = Identity(1), Identity(2), Identity(3)


def service(
    *, seeds: tuple[str, ...] = (), monotonic: Callable[[], float] = lambda: 0.0, wall: float = WALL
) -> tuple[MembershipService, Recorder]:
    recorder = Recorder()
    setup = MembershipSetup(
        certified=ME.certified, root_key=ROOT_KEY, boot_epoch=3, seeds=seeds, config=MembershipConfig()
    )
    seams = Seams(signer=KeySigner(ME.key), monotonic=monotonic, wall=lambda: wall, rng=random.Random(1))
    return MembershipService(setup, recorder, seams), recorder


def test_a_state_that_its_publisher_signed_makes_a_member_with_what_its_certificate_proves() -> None:
    membership, recorder = service()
    membership.link_up(ALICE.node)
    membership.message(ALICE.node, States([BOB.core(1, name="bob"), BOB.state(offer(), 2)]))
    bob = membership.member(BOB.node)

    assert bob is not None
    assert (bob.core.name, bob.offer, bob.certified) == ("bob", offer(), BOB.certified)
    assert [member.node for member in recorder.changed] == [BOB.node]


def test_what_this_node_publishes_another_accepts() -> None:
    mine, recorder = service()
    mine.link_up(ALICE.node)
    mine.publish(Core([ME.certificate], "me", ["10.0.0.1:7423"], "1"))
    mine.publish(offer())
    theirs, _ = service()
    theirs.link_up(ME.node)
    for _, message in recorder.sent:
        if isinstance(message, States):
            theirs.message(ME.node, message)

    assert [state.version for state in recorder.states()] == [Version(3, 1), Version(3, 2)]


def test_a_publisher_renews_its_certificate_without_becoming_another_member() -> None:
    membership, _ = service(wall=WALL + 1000)
    renewed = Identity(3, wall=WALL + 500)
    membership.message(ALICE.node, States([BOB.core(1)]))
    membership.message(ALICE.node, States([renewed.core(2)]))

    assert membership.member(BOB.node).certified == renewed.certified
    assert renewed.certified != BOB.certified


@pytest.mark.parametrize("sender", [ALICE.node, BOB.node])
def test_a_forged_signature_is_the_senders_fault_whoever_it_is(sender: NodeId) -> None:
    """An honest relay has checked it before it passed it on."""
    membership, _ = service()
    forged = SignedState(BOB.core().body, bytes(64))

    with pytest.raises(BadSignature):
        membership.message(sender, States([forged]))
    assert membership.members() == []


def test_a_signature_of_another_domain_is_worthless() -> None:
    membership, _ = service()
    body = BOB.core().body

    with pytest.raises(BadSignature):
        membership.message(BOB.node, States([SignedState(body, sign(BOB.key, Domain.MANIFEST, body).signature)]))


def test_nobody_speaks_with_another_nodes_certificate() -> None:
    membership, _ = service()
    theft = State(MESH, ALICE.node, Slot.CORE, Version(1, 1), encode_record(Core([BOB.certificate], "n", [], "1")))
    body = encode_record(theft)

    with pytest.raises(CertificateRefused):
        membership.message(BOB.node, States([SignedState(body, sign(BOB.key, Domain.STATE, body).signature)]))


def test_nobody_takes_over_a_member_with_a_key_of_their_own() -> None:
    membership, _ = service()
    membership.message(ALICE.node, States([BOB.core(1, name="bob")]))
    body = encode_record(
        State(MESH, BOB.node, Slot.CORE, Version(9, 9), encode_record(Core([ALICE.certificate], "n", [], "1")))
    )

    with pytest.raises(CertificateRefused):
        membership.message(ALICE.node, States([SignedState(body, sign(ALICE.key, Domain.STATE, body).signature)]))
    assert membership.member(BOB.node).core.name == "bob"


def test_a_node_of_another_mesh_is_refused() -> None:
    membership, _ = service()
    stranger = Identity(4, root=Ed25519PrivateKey.from_private_bytes(b"r" * 32))

    with pytest.raises(CertificateRefused):
        membership.message(ALICE.node, States([stranger.core()]))


def test_a_state_that_names_another_mesh_is_refused() -> None:
    membership, _ = service()

    with pytest.raises(MalformedMessage, match="another mesh"):
        membership.message(BOB.node, States([BOB.state(offer(), mesh=MeshId(b"x" * 20))]))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x95" * 50, encode_record(offer())])
def test_bytes_that_are_no_state_are_the_senders_fault(body: bytes) -> None:
    membership, _ = service()

    with pytest.raises(MalformedMessage):
        membership.message(ALICE.node, States([SignedState(body, bytes(64))]))


def _unreadable() -> SignedState:
    body = encode_record(State(MESH, BOB.node, Slot.OFFER, Version(1, 2), b"\x93\x01\x02\x03"))
    return SignedState(body, sign(BOB.key, Domain.STATE, body).signature)


def test_content_that_we_can_not_read_is_its_publishers_fault_alone() -> None:
    """A later release may say more; whoever passes it on means well."""
    membership, _ = service()
    membership.message(ALICE.node, States([BOB.core(1)]))
    membership.message(ALICE.node, States([_unreadable()]))
    with pytest.raises(MalformedMessage):
        membership.message(BOB.node, States([_unreadable()]))

    assert membership.member(BOB.node).offer is None


def test_a_certificate_that_has_ended_is_not_the_fault_of_who_passes_it_on() -> None:
    membership, _ = service(wall=WALL + 91 * 24 * 3600)
    membership.message(ALICE.node, States([BOB.core()]))
    with pytest.raises(CertificateOutOfDate):
        membership.message(BOB.node, States([BOB.core()]))

    assert membership.members() == []


def test_an_offer_that_came_before_its_certificate_is_asked_for_again_with_it() -> None:
    membership, recorder = service()
    membership.message(ALICE.node, States([BOB.state(offer(), 2)]))

    assert recorder.sent == [(ALICE.node, StateWants([(BOB.node, Slot.CORE), (BOB.node, Slot.OFFER)]))]


def test_what_is_not_newer_is_not_even_verified() -> None:
    membership, recorder = service()
    membership.message(ALICE.node, States([BOB.core(2)]))
    recorder.changed.clear()
    membership.message(ALICE.node, States([SignedState(BOB.core(1).body, bytes(64))]))

    assert recorder.changed == []


def test_a_peer_makes_us_verify_no_more_than_its_budget() -> None:
    now = [0.0]
    membership, _ = service(monotonic=lambda: now[0])
    membership.message(ALICE.node, States([BOB.core(1)]))
    for sequence in range(2, CHECKS_BURST + 100):
        membership.message(ALICE.node, States([BOB.state(offer(), sequence)]))
    spent = membership.member(BOB.node).version
    assert spent == Version(1, CHECKS_BURST - 2), "a chain costs two more than a state"
    now[0] = 1.0
    membership.message(ALICE.node, States([BOB.state(offer(), 5000)]))

    assert membership.member(BOB.node).version == Version(1, 5000)


def test_a_node_that_lost_its_epoch_outbids_what_it_said_in_its_last_life() -> None:
    membership, recorder = service()
    membership.link_up(ALICE.node)
    membership.publish(Core([ME.certificate], "now", [], "1"))
    membership.publish(offer())
    recorder.sent.clear()
    membership.message(ALICE.node, StateDigests([StateDigest(ME.node, Slot.CORE, Version(8, 1))]))
    assert StateWants([(ME.node, Slot.CORE)]) in [message for _, message in recorder.sent]
    membership.message(ALICE.node, States([ME.core(1, epoch=8, name="before")]))

    assert [(s.slot, s.version) for s in recorder.states()[-2:]] == [
        (Slot.CORE, Version(9, 1)),
        (Slot.OFFER, Version(9, 2)),
    ]
    assert membership.member(ME.node).core.name == "now"


def test_a_state_too_large_to_travel_is_refused_before_it_is_signed() -> None:
    membership, _ = service()
    membership.publish(Core([ME.certificate], "me", [], "1"))

    with pytest.raises(LocalProtocolError, match="offer has"):
        membership.publish(offer(gpus=64))


async def test_seeds_are_tried_with_growing_pauses_until_one_answers(nursery, autojump_clock) -> None:
    membership, recorder = service(seeds=("seed:7423",), monotonic=trio.current_time)
    times = []

    def dial(node: NodeId | None, addresses: Sequence[str]) -> None:
        assert (node, addresses) == (None, ("seed:7423",))
        times.append(trio.current_time())
        nursery.start_soon(fail)

    async def fail() -> None:
        membership.dial_failed(None, "seed:7423", refused=True)

    recorder.dial = dial
    await nursery.start(membership.run)
    await trio.sleep(300)
    pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert pauses[0] < 1
    assert 15 <= pauses[-1] <= 30
    assert len(pauses) == pytest.approx(7 + 300 / 22, abs=6)
    membership.link_up(ALICE.node, dialled="seed:7423")
    times.clear()
    await trio.sleep(300)
    assert times == []
    membership.link_down(ALICE.node, refused=False)
    await trio.sleep(31)

    assert times, "who answered is gone: somebody else may live there now"


async def test_a_seed_that_connected_to_us_is_not_dialled(nursery, autojump_clock) -> None:
    membership, recorder = service(seeds=("10.0.0.2:7423",), monotonic=trio.current_time)
    membership.link_up(ALICE.node)
    membership.message(ALICE.node, States([ALICE.core(addresses=["10.0.0.2:7423"])]))
    await nursery.start(membership.run)
    await trio.sleep(100)

    assert recorder.dialled == []


async def test_an_offer_is_signed_anew_as_a_sign_of_life(nursery, autojump_clock) -> None:
    membership, recorder = service(monotonic=trio.current_time)
    membership.publish(Core([ME.certificate], "me", [], "1"))
    membership.publish(offer())
    membership.link_up(ALICE.node)
    recorder.sent.clear()
    await nursery.start(membership.run)
    await trio.sleep(16)
    versions = [state.version.sequence for state in recorder.states()]

    assert versions == [3, 4, 5]


async def test_a_member_whose_address_refuses_is_dead_soon(nursery, autojump_clock) -> None:
    membership, recorder = service(monotonic=trio.current_time)
    membership.link_up(ALICE.node)
    membership.message(ALICE.node, States([ALICE.core(addresses=["10.0.0.2:7423"])]))
    await nursery.start(membership.run)
    membership.link_down(ALICE.node, refused=True)
    await trio.sleep(2)

    assert [member.state for member in recorder.changed] == [MemberState.ALIVE, MemberState.SUSPECT, MemberState.DEAD]
    assert recorder.dialled == [(ALICE.node, ("10.0.0.2:7423",))]
