import itertools
import random
from collections.abc import Callable, Sequence

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.core.membership.events import VerifiedRevocation
from meshd_node.core.membership.machine import Membership
from meshd_node.core.membership.seeds import Seeds
from meshd_node.seams import KeySigner, Seams
from meshd_node.services.membership.news import STATE_CHECKS_BURST
from meshd_node.services.membership.service import MembershipService, MembershipSetup
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
from meshd_protocol.messages.membership import (
    Load,
    Probe,
    ProbeAck,
    Rumours,
    SignedClaim,
    SignedRevocation,
    SignedState,
    States,
    StateWants,
    handle_of,
)
from meshd_protocol.names import NodeName
from meshd_protocol.records import (
    CageLevel,
    Claim,
    Core,
    Gpu,
    Offer,
    Phase,
    Revocation,
    Slot,
    State,
    Verdict,
    Version,
    decode_record,
    encode_record,
)
from meshd_protocol.revocations import make_revocation
from meshd_protocol.signing import Domain, Signed, sign, verify

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

    def claim(self, accused: NodeId, version: Version, verdict: Verdict = Verdict.SUSPECT) -> SignedClaim:
        body = encode_record(Claim(MESH, self.node, accused, version, verdict))
        return SignedClaim(body, sign(self.key, Domain.CLAIM, body).signature)

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
        self.dropped: list[NodeId] = []
        self.ended: list[VerifiedRevocation] = []
        self.busy = Load(0, 0)

    def drop(self, node: NodeId) -> None:
        self.dropped.append(node)

    def revoked(self, revocations: list[VerifiedRevocation]) -> None:
        self.ended += revocations

    def load(self) -> Load:
        return self.busy

    def send(self, node: NodeId, message: object) -> None:
        self.sent.append((node, message))

    def dial(self, node: NodeId | None, addresses: Sequence[str]) -> None:
        self.dialled.append((node, tuple(addresses)))

    def member_changed(self, member: Member) -> None:
        self.changed.append(member)

    def flush(self) -> None:
        """Nothing is queued here."""

    def states(self) -> list[State]:
        """Every version that was sent, once each, in order."""
        signed = [each for _, message in self.sent if isinstance(message, Rumours | States) for each in message.states]
        return [decode_record(State, body) for body in dict.fromkeys(each.body for each in signed)]


ME, ALICE, BOB = Identity(1), Identity(2), Identity(3)


def service(
    who: Identity = ME,
    *,
    seeds: tuple[str, ...] = (),
    monotonic: Callable[[], float] = lambda: 0.0,
    wall: float = WALL,
) -> tuple[MembershipService, Recorder]:
    recorder = Recorder()
    setup = MembershipSetup(certified=who.certified, root_key=ROOT_KEY, boot_epoch=3)
    seams = Seams(signer=KeySigner(who.key), monotonic=monotonic, wall=lambda: wall, rng=random.Random(1))
    config = MembershipConfig()
    machine = Membership(who.node, seams.rng, config)
    return MembershipService(machine, Seeds(seeds, seams.rng, config), setup, recorder, seams), recorder


def test_a_state_that_its_publisher_signed_makes_a_member_with_what_its_certificate_proves() -> None:
    membership, recorder = service()
    membership.link_up(ALICE.node)
    membership.message(ALICE.node, States([BOB.core(1, name="bob"), BOB.state(offer(), 2)], []))
    bob = membership.member(BOB.node)

    assert bob is not None
    assert (bob.core.name, bob.offer, bob.certified) == ("bob", offer(), BOB.certified)
    assert {member.node for member in recorder.changed} == {BOB.node}


async def test_what_this_node_publishes_another_accepts(nursery, autojump_clock) -> None:
    mine, recorder = service(monotonic=trio.current_time)
    mine.publish(Core([ME.certificate], "me", ["10.0.0.1:7423"], "1"))
    mine.publish(offer())
    mine.link_up(ALICE.node)
    mine.message(ALICE.node, States([ALICE.core(1)], []))
    await nursery.start(mine.run)
    await trio.sleep(5)
    theirs, _ = service(BOB)
    for _, message in recorder.sent:
        if isinstance(message, Rumours | States):
            theirs.message(ALICE.node, message)

    assert {Version(3, 1), Version(3, 2)} <= {state.version for state in recorder.states()}
    assert theirs.member(ME.node).core.name == "me"
    assert theirs.member(ME.node).offer == offer()


async def test_a_node_that_finds_nobody_says_so_once_until_it_has_met_somebody(nursery, autojump_clock, capsys) -> None:
    """All machines had got new addresses: each said that it was ready, and no more."""
    membership, _ = service(seeds=("a:1", "b:1"), monotonic=trio.current_time)
    await nursery.start(membership.run)
    for _ in range(10):
        for address in ("a:1", "b:1"):
            membership.dial_failed(None, address, refused=True)
        await trio.sleep(10)
    assert capsys.readouterr().err.count("nobody_answers") == 1

    membership.link_up(ALICE.node, "a:1")
    membership.dial_failed(None, "a:1", refused=True)
    await trio.sleep(60)
    assert "nobody_answers" not in capsys.readouterr().err
    membership.link_down(ALICE.node, refused=False)
    membership.dial_failed(None, "a:1", refused=True)
    await trio.sleep(60)
    assert "nobody_answers" in capsys.readouterr().err


async def test_a_lab_that_starts_again_is_not_told_that_nobody_answers(nursery, autojump_clock, capsys) -> None:
    """The first to start finds its seeds down, and is called by them a second later."""
    membership, _ = service(seeds=("a:1",), monotonic=trio.current_time)
    await nursery.start(membership.run)
    membership.dial_failed(None, "a:1", refused=True)
    await trio.sleep(1)
    membership.link_up(ALICE.node)
    await trio.sleep(60)

    assert "nobody_answers" not in capsys.readouterr().err


def test_a_publisher_renews_its_certificate_without_becoming_another_member() -> None:
    membership, _ = service(wall=WALL + 1000)
    renewed = Identity(3, wall=WALL + 500)
    membership.message(ALICE.node, States([BOB.core(1)], []))
    membership.message(ALICE.node, States([renewed.core(2)], []))

    assert membership.member(BOB.node).certified == renewed.certified
    assert renewed.certified != BOB.certified


@pytest.mark.parametrize("sender", [ALICE.node, BOB.node])
def test_a_forged_signature_is_the_senders_fault_whoever_it_is(sender: NodeId) -> None:
    """An honest relay has checked it before it passed it on."""
    membership, _ = service()
    forged = SignedState(BOB.core().body, bytes(64))

    with pytest.raises(BadSignature):
        membership.message(sender, States([forged], []))
    assert membership.members() == []


def test_a_signature_of_another_domain_is_worthless() -> None:
    membership, _ = service()
    body = BOB.core().body

    with pytest.raises(BadSignature):
        membership.message(BOB.node, States([SignedState(body, sign(BOB.key, Domain.MANIFEST, body).signature)], []))


def test_nobody_speaks_with_another_nodes_certificate() -> None:
    membership, _ = service()
    theft = State(MESH, ALICE.node, Slot.CORE, Version(1, 1), encode_record(Core([BOB.certificate], "n", [], "1")))
    body = encode_record(theft)

    with pytest.raises(CertificateRefused):
        membership.message(BOB.node, States([SignedState(body, sign(BOB.key, Domain.STATE, body).signature)], []))


def test_nobody_takes_over_a_member_with_a_key_of_their_own() -> None:
    membership, _ = service()
    membership.message(ALICE.node, States([BOB.core(1, name="bob")], []))
    body = encode_record(
        State(MESH, BOB.node, Slot.CORE, Version(9, 9), encode_record(Core([ALICE.certificate], "n", [], "1")))
    )

    with pytest.raises(CertificateRefused):
        membership.message(ALICE.node, States([SignedState(body, sign(ALICE.key, Domain.STATE, body).signature)], []))
    assert membership.member(BOB.node).core.name == "bob"


def test_a_node_of_another_mesh_is_refused() -> None:
    membership, _ = service()
    stranger = Identity(4, root=Ed25519PrivateKey.from_private_bytes(b"r" * 32))

    with pytest.raises(CertificateRefused):
        membership.message(ALICE.node, States([stranger.core()], []))


def test_a_state_that_names_another_mesh_is_refused() -> None:
    membership, _ = service()

    with pytest.raises(MalformedMessage, match="another mesh"):
        membership.message(BOB.node, States([BOB.state(offer(), mesh=MeshId(b"x" * 20))], []))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x95" * 50, encode_record(offer())])
def test_bytes_that_are_no_state_are_the_senders_fault(body: bytes) -> None:
    membership, _ = service()

    with pytest.raises(MalformedMessage):
        membership.message(ALICE.node, States([SignedState(body, bytes(64))], []))


def _unreadable() -> SignedState:
    body = encode_record(State(MESH, BOB.node, Slot.OFFER, Version(1, 2), b"\x93\x01\x02\x03"))
    return SignedState(body, sign(BOB.key, Domain.STATE, body).signature)


def test_content_that_we_can_not_read_is_its_publishers_fault_alone() -> None:
    """A later release may say more; whoever passes it on means well."""
    membership, _ = service()
    membership.message(ALICE.node, States([BOB.core(1)], []))
    membership.message(ALICE.node, States([_unreadable()], []))
    with pytest.raises(MalformedMessage):
        membership.message(BOB.node, States([_unreadable()], []))

    assert membership.member(BOB.node).offer is None


def test_a_certificate_that_has_ended_is_not_the_fault_of_who_passes_it_on() -> None:
    membership, _ = service(wall=WALL + 91 * 24 * 3600)
    membership.message(ALICE.node, States([BOB.core()], []))
    with pytest.raises(CertificateOutOfDate):
        membership.message(BOB.node, States([BOB.core()], []))

    assert membership.members() == []


def test_an_offer_that_came_before_its_certificate_is_asked_for_again_with_it() -> None:
    membership, recorder = service()
    membership.message(ALICE.node, States([BOB.state(offer(), 2)], []))

    wants = StateWants(handle_of(BOB.node, Slot.CORE) + handle_of(BOB.node, Slot.OFFER))
    assert (ALICE.node, wants) in recorder.sent


def test_what_is_not_newer_is_not_even_verified() -> None:
    membership, recorder = service()
    membership.message(ALICE.node, States([BOB.core(2)], []))
    recorder.changed.clear()
    membership.message(ALICE.node, States([SignedState(BOB.core(1).body, bytes(64))], []))

    assert recorder.changed == []


def test_a_peer_makes_us_verify_no_more_than_its_budget() -> None:
    now = [0.0]
    membership, _ = service(monotonic=lambda: now[0])
    membership.message(ALICE.node, States([BOB.core(1)], []))
    for sequence in range(2, STATE_CHECKS_BURST + 100):
        membership.message(ALICE.node, States([BOB.state(offer(), sequence)], []))
    spent = membership.member(BOB.node).version
    assert spent == Version(1, STATE_CHECKS_BURST - 2), "a chain costs two more than a state"
    now[0] = 1.0
    membership.message(ALICE.node, States([BOB.state(offer(), 5000)], []))

    assert membership.member(BOB.node).version == Version(1, 5000)


def test_hanging_up_does_not_give_a_peer_another_budget() -> None:
    membership, _ = service()
    membership.link_up(ALICE.node)
    membership.message(ALICE.node, States([BOB.core(1)], []))
    for sequence in range(2, STATE_CHECKS_BURST + 100):
        membership.message(ALICE.node, States([BOB.state(offer(), sequence)], []))
    spent = membership.member(BOB.node).version

    membership.link_down(ALICE.node, refused=False)
    membership.link_up(ALICE.node)
    membership.message(ALICE.node, States([BOB.state(offer(), 5000)], []))

    assert membership.member(BOB.node).version == spent


def test_a_state_that_is_in_one_message_many_times_is_verified_once() -> None:
    """Else one signature costs a liar its own 40 us, and us 14 ms for each message that repeats it."""
    membership, _ = service()
    membership.message(ALICE.node, States([BOB.core(1)], []))
    for sequence in range(2, 30):
        membership.message(ALICE.node, States([BOB.state(offer(), sequence)] * 128, []))

    assert membership.member(BOB.node).version == Version(1, 29)


def test_a_node_that_lost_its_epoch_outbids_what_it_said_in_its_last_life() -> None:
    membership, recorder = service()
    membership.link_up(ALICE.node)
    membership.publish(Core([ME.certificate], "now", [], "1"))
    membership.publish(offer())
    recorder.sent.clear()
    membership.message(ALICE.node, States([ME.core(1, epoch=8, name="before")], []))

    assert membership.member(ME.node).version == Version(9, 2)
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
    membership.message(ALICE.node, States([ALICE.core(addresses=["10.0.0.2:7423"])], []))
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
    before = membership.member(ME.node).version
    await trio.sleep(200)

    assert before.sequence + 3 <= membership.member(ME.node).version.sequence <= before.sequence + 5


async def test_a_member_whose_address_refuses_is_dead_soon(nursery, autojump_clock) -> None:
    membership, recorder = service(monotonic=trio.current_time)
    membership.link_up(ALICE.node)
    membership.message(ALICE.node, States([ALICE.core(addresses=["10.0.0.2:7423"])], []))
    await nursery.start(membership.run)
    membership.link_down(ALICE.node, refused=True)
    await trio.sleep(2)

    assert [member.state for member in recorder.changed] == [MemberState.ALIVE, MemberState.SUSPECT, MemberState.DEAD]
    assert recorder.dialled == [(ALICE.node, ("10.0.0.2:7423",))]


# --- claims -----------------------------------------------------------------------------------------------------------


def claims(*signed: SignedClaim) -> Rumours:
    return Rumours([], list(signed), [], b"")


def three() -> tuple[MembershipService, Recorder]:
    """A node that knows two others: in so small a mesh everybody observes everybody."""
    membership, recorder = service()
    membership.publish(Core([ME.certificate], "me", [], "1"))
    membership.publish(offer())
    membership.link_up(ALICE.node)
    membership.link_up(BOB.node)
    for each in (ALICE, BOB):
        membership.message(each.node, States([each.core(1), each.state(offer(), 2)], []))
    return membership, recorder


def test_a_claim_that_its_accuser_signed_makes_a_suspect() -> None:
    membership, _ = three()
    membership.message(ALICE.node, claims(BOB.claim(ALICE.node, Version(1, 2))))

    assert membership.member(ALICE.node).state is MemberState.SUSPECT


def test_a_forged_claim_is_the_senders_fault() -> None:
    membership, _ = three()
    forged = SignedClaim(BOB.claim(ALICE.node, Version(1, 2)).body, bytes(64))

    with pytest.raises(BadSignature):
        membership.message(ALICE.node, claims(forged))
    assert membership.member(ALICE.node).state is MemberState.ALIVE


def test_nobody_accuses_in_anothers_name_or_in_another_domain() -> None:
    membership, _ = three()
    body = BOB.claim(ALICE.node, Version(1, 2)).body

    for key, domain in [(ALICE.key, Domain.CLAIM), (BOB.key, Domain.STATE)]:
        with pytest.raises(BadSignature):
            membership.message(ALICE.node, claims(SignedClaim(body, sign(key, domain, body).signature)))


def test_a_claim_of_another_mesh_is_refused() -> None:
    membership, _ = three()
    body = encode_record(Claim(MeshId(b"x" * 20), BOB.node, ALICE.node, Version(1, 2), Verdict.SUSPECT))

    with pytest.raises(MalformedMessage, match="another mesh"):
        membership.message(ALICE.node, claims(SignedClaim(body, bytes(64))))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x95" * 50, encode_record(offer())])
def test_bytes_that_are_no_claim_are_the_senders_fault(body: bytes) -> None:
    membership, _ = three()

    with pytest.raises(MalformedMessage):
        membership.message(ALICE.node, claims(SignedClaim(body, bytes(64))))


def test_what_strangers_claim_is_not_even_verified() -> None:
    membership, _ = three()
    unknown = Identity(7).claim(ALICE.node, Version(1, 2))
    membership.message(BOB.node, claims(SignedClaim(unknown.body, bytes(64)), unknown))

    assert membership.member(ALICE.node).state is MemberState.ALIVE


def test_a_claim_that_was_heard_is_not_verified_again() -> None:
    membership, _ = three()
    claim = BOB.claim(ALICE.node, Version(1, 2))
    membership.message(ALICE.node, claims(claim))
    membership.message(ALICE.node, claims(SignedClaim(claim.body, bytes(64))))

    assert membership.member(ALICE.node).state is MemberState.SUSPECT


def test_claims_are_heard_though_the_sender_has_spent_what_it_may_on_states() -> None:
    """Else a liar that floods states could keep a death from being known."""
    membership, _ = three()
    for sequence in range(3, STATE_CHECKS_BURST + 10):
        membership.message(ALICE.node, States([ALICE.state(offer(), sequence)], []))
    version = membership.member(BOB.node).version
    membership.message(ALICE.node, claims(ALICE.claim(BOB.node, version)))

    assert membership.member(BOB.node).state is MemberState.SUSPECT


def test_who_is_accused_says_something_newer_at_once() -> None:
    membership, _ = three()
    before = membership.member(ME.node).version
    membership.message(ALICE.node, claims(ALICE.claim(ME.node, before)))

    assert membership.member(ME.node).version > before
    assert membership.member(ME.node).state is MemberState.ALIVE


def test_who_is_accused_of_a_version_to_come_says_something_newer_than_that() -> None:
    membership, _ = three()
    before = membership.member(ME.node).version
    ahead = Version(before.epoch, before.sequence + 16)
    membership.message(ALICE.node, claims(ALICE.claim(ME.node, ahead)))

    assert membership.member(ME.node).version > ahead


async def test_this_nodes_own_claims_are_signed_and_told(nursery, autojump_clock) -> None:
    membership, recorder = service(monotonic=trio.current_time)
    membership.publish(Core([ME.certificate], "me", [], "1"))
    membership.publish(offer())
    for each in (ALICE, BOB):
        membership.link_up(each.node)
        membership.message(each.node, States([each.core(1), each.state(offer(), 2)], []))
    await nursery.start(membership.run)
    await trio.sleep(10)
    told = [claim for _, message in recorder.sent if isinstance(message, Rumours) for claim in message.claims]

    assert told
    for claim in told:
        verify(ME.key.public_key(), Domain.CLAIM, Signed(claim.body, claim.signature))
        assert decode_record(Claim, claim.body).accuser == ME.node


# --- revocations ------------------------------------------------------------------------------------------------------


def revocation(node: NodeId, *, until: float = WALL + 1_000) -> SignedRevocation:
    return make_revocation(Signer.root(ROOT), Revocation(MESH, node, "lab", int(until * 1_000), "stolen"))


def test_a_revoked_member_is_cut_off_and_others_are_told() -> None:
    membership, recorder = three()
    membership.message(ALICE.node, Rumours([revocation(BOB.node)], [], [], b""))

    assert membership.member(BOB.node).state is MemberState.REVOKED
    assert recorder.dropped == [BOB.node]
    assert [each.revocation.node for each in recorder.ended] == [BOB.node]


def test_a_forged_revocation_is_the_senders_fault() -> None:
    membership, recorder = three()
    forged = SignedRevocation(revocation(BOB.node).body, bytes(64), b"")

    with pytest.raises(BadSignature):
        membership.message(ALICE.node, States([], [forged]))
    assert membership.member(BOB.node).state is MemberState.ALIVE
    assert recorder.dropped == recorder.ended == []


def test_a_revocation_that_is_known_is_not_verified_again() -> None:
    membership, recorder = three()
    signed = revocation(BOB.node)
    for each in (signed, SignedRevocation(signed.body, bytes(64), b"")):
        membership.message(ALICE.node, States([], [each]))

    assert len(recorder.ended) == 1


def test_a_revocation_that_has_ended_is_nobodys_fault() -> None:
    membership, recorder = three()
    membership.message(ALICE.node, States([], [revocation(BOB.node, until=WALL - 1)]))

    assert recorder.ended == []


def test_what_this_node_revokes_itself_is_told() -> None:
    membership, recorder = three()
    signed = revocation(BOB.node)
    membership.revoke([VerifiedRevocation(signed, decode_record(Revocation, signed.body))])

    assert membership.member(BOB.node).state is MemberState.REVOKED
    assert recorder.dropped == [BOB.node]


def test_a_revoked_node_has_no_voice() -> None:
    membership, _ = three()
    membership.message(ALICE.node, States([], [revocation(BOB.node)]))
    membership.message(ALICE.node, claims(BOB.claim(ALICE.node, Version(1, 2))))
    membership.message(ALICE.node, States([SignedState(BOB.core(9, name="back").body, bytes(64))], []))

    assert membership.member(ALICE.node).state is MemberState.ALIVE
    assert membership.member(BOB.node).core.name == "n"


# --- what is not signed -----------------------------------------------------------------------------------------------


def test_a_probe_is_answered_with_how_busy_this_node_is() -> None:
    membership, recorder = three()
    recorder.busy = Load(3, 9)
    membership.message(ALICE.node, Probe(77))

    assert (ALICE.node, ProbeAck(77, Load(3, 9))) in recorder.sent
