"""Certificates: what is believed, and every way in which it is not, by us and by TLS itself."""

import os
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from meshd_protocol import issuing
from meshd_protocol.certificates import (
    Role,
    read_node_name,
    read_request,
    trust_anchor,
    verify_admission_proof,
    verify_invite_chain,
    verify_issuer,
    verify_node_chain,
)
from meshd_protocol.errors import CertificateOutOfDate, CertificateRefused, LocalProtocolError, RemoteProtocolError
from meshd_protocol.ids import MeshId, NodeId, mesh_id, node_id
from meshd_protocol.issuing import Signer, issue_invite, issue_issuer, issue_node, joining_request, renewal_request
from meshd_protocol.limits import CLOCK_SKEW_S, NODE_CERTIFICATE_S
from meshd_protocol.names import InviteName, IssuerName, NodeName, RequestName, check_label

WALL = 1_800_000_000.0
GRANTED = frozenset({Role.WORKER, Role.SUBMITTER})
NONCE = bytes(range(16))


def key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


def raw(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


@dataclass
class Mesh:
    """A root with one issuer; its numbers choose its keys."""

    number: int = 1
    wall: float = WALL
    root: Ed25519PrivateKey = field(init=False)
    issuer: Ed25519PrivateKey = field(init=False)

    def __post_init__(self) -> None:
        self.root, self.issuer = key(self.number), key(self.number + 1)

    @property
    def id(self) -> MeshId:
        return mesh_id(raw(self.root))

    def issuer_certificate(self, roles: frozenset[Role] = GRANTED, wall: float | None = None) -> bytes:
        name = IssuerName(self.id, NodeId(bytes(20)), frozenset({"lab", "Größe & Co"}), roles, frozenset({"guests"}))
        return issue_issuer(self.root, self.issuer.public_key(), name, 7, self.wall if wall is None else wall)

    def signer(self) -> Signer:
        return Signer.issuer(self.issuer, self.issuer_certificate())

    def name(self, node: Ed25519PrivateKey, operator: str = "lab", roles: frozenset[Role] = GRANTED) -> NodeName:
        return NodeName(self.id, node_id(raw(node), NONCE), operator, roles, NONCE)

    def node_chain(
        self, node: Ed25519PrivateKey, operator: str = "lab", roles: frozenset[Role] = GRANTED
    ) -> list[bytes]:
        leaf = issue_node(self.signer(), node.public_key(), self.name(node, operator, roles), 9, self.wall)
        return [leaf, self.issuer_certificate()]

    def invite_chain(
        self, invite: Ed25519PrivateKey, operator: str = "lab", roles: frozenset[Role] = GRANTED, ttl_s: float = 3600
    ) -> list[bytes]:
        name = InviteName(self.id, issuing.key_id(raw(invite)), operator, roles, 3)
        return [
            issue_invite(self.signer(), invite.public_key(), name, 11, self.wall, ttl_s),
            self.issuer_certificate(),
        ]


MESH = Mesh()
NODE = key(50)
INVITE = key(60)


def refused(root: Ed25519PrivateKey, chain: list[bytes], wall: float = WALL) -> str:
    with pytest.raises(CertificateRefused) as caught:
        verify_node_chain(raw(root), chain, wall)
    return str(caught.value)


# --- chains that are believed ---------------------------------------------------------------------------------------


def test_chain_through_an_issuer_proves_the_node() -> None:
    chain = MESH.node_chain(NODE, operator="Größe & Co")

    proved = verify_node_chain(raw(MESH.root), chain, WALL)

    assert (proved.mesh, proved.node) == (MESH.id, node_id(raw(NODE), NONCE))
    assert (proved.operator, proved.roles) == ("Größe & Co", GRANTED)
    assert proved.key == NODE.public_key()
    assert proved.chain == tuple(chain)
    assert proved.not_before == WALL - 300
    assert proved.not_after == WALL + NODE_CERTIFICATE_S


def test_root_itself_may_make_any_node() -> None:
    name = MESH.name(NODE, operator="new operator", roles=frozenset(Role))
    leaf = issue_node(Signer.root(MESH.root), NODE.public_key(), name, 9, WALL)

    assert verify_node_chain(raw(MESH.root), [leaf], WALL).roles == frozenset(Role)
    assert read_node_name(leaf) == name


def test_invite_chain_says_what_its_holder_may_become() -> None:
    invited = verify_invite_chain(raw(MESH.root), MESH.invite_chain(INVITE), WALL)

    assert (invited.operator, invited.roles, invited.uses, invited.serial) == ("lab", GRANTED, 3, 11)
    assert invited.issuer == issuing.key_id(raw(MESH.issuer))
    assert invited.issuer_node == bytes(20)
    assert invited.not_after == WALL + 3600


def test_issuer_certificate_is_verified_by_itself() -> None:
    name = verify_issuer(raw(MESH.root), MESH.issuer_certificate(), WALL)

    assert name.may_grant("lab", GRANTED)
    assert not name.may_grant("lab", frozenset({Role.TRUSTED}))
    assert name.may_revoke("lab")
    assert name.may_revoke("guests")
    assert not name.may_revoke("others")


def test_clocks_may_differ_by_the_skew_and_no_more() -> None:
    chain = MESH.node_chain(NODE)
    end = WALL + NODE_CERTIFICATE_S

    verify_node_chain(raw(MESH.root), chain, end + CLOCK_SKEW_S)
    verify_node_chain(raw(MESH.root), chain, WALL - 300 - CLOCK_SKEW_S)
    assert "ended at" in refused(MESH.root, chain, end + CLOCK_SKEW_S + 1)
    assert "set the clock" in refused(MESH.root, chain, WALL - 301 - CLOCK_SKEW_S)


def test_node_certificate_never_outlives_its_issuers() -> None:
    late = Mesh(wall=WALL + issuing.ISSUER_CERTIFICATE_S - 3600)
    signer = Signer.issuer(MESH.issuer, MESH.issuer_certificate())
    leaf = issue_node(signer, NODE.public_key(), MESH.name(NODE), 9, late.wall)

    proved = verify_node_chain(raw(MESH.root), [leaf, MESH.issuer_certificate()], late.wall)

    assert proved.not_after == WALL + issuing.ISSUER_CERTIFICATE_S


def test_issuer_whose_certificate_ended_is_told_to_see_the_root() -> None:
    with pytest.raises(LocalProtocolError, match="renew it with the root"):
        issue_node(MESH.signer(), NODE.public_key(), MESH.name(NODE), 9, WALL + issuing.ISSUER_CERTIFICATE_S + 1_000)


# --- chains that are not --------------------------------------------------------------------------------------------


def test_chain_of_another_root_is_refused() -> None:
    other = Mesh(number=20)

    assert "of the mesh" in refused(MESH.root, other.node_chain(NODE))


def test_issuer_that_claims_our_mesh_without_our_root_is_refused() -> None:
    forger = Mesh(number=20)
    name = IssuerName(MESH.id, NodeId(bytes(20)), frozenset({"lab"}), GRANTED, frozenset())
    forged = issue_issuer(forger.root, forger.issuer.public_key(), name, 7, WALL)
    leaf = issue_node(Signer.issuer(forger.issuer, forged), NODE.public_key(), MESH.name(NODE), 9, WALL)

    assert "not signed by" in refused(MESH.root, [leaf, forged])


def test_issuer_signed_by_the_public_anchor_key_is_refused() -> None:
    """Everybody knows the key that signs anchors: its signature must be worth nothing under them."""
    signer = Signer.root(MESH.root)
    forged = Signer(issuing._ANCHOR_SIGNER, signer.name, signer.ends, ())
    leaf = issue_node(forged, NODE.public_key(), MESH.name(NODE), 9, WALL)

    assert "not signed by" in refused(MESH.root, [leaf])


def test_issuer_does_not_grant_a_role_that_the_root_did_not_list() -> None:
    chain = MESH.node_chain(NODE, roles=GRANTED | {Role.TRUSTED})

    assert refused(MESH.root, chain) == "its issuer may not grant the role trusted"


def test_issuer_does_not_make_a_new_operator() -> None:
    assert "operator 'stranger'" in refused(MESH.root, MESH.node_chain(NODE, operator="stranger"))


def test_invite_does_not_promise_more_than_its_issuer_may_grant() -> None:
    chain = MESH.invite_chain(INVITE, roles=frozenset({Role.COORDINATOR}))

    with pytest.raises(CertificateRefused, match="coordinator"):
        verify_invite_chain(raw(MESH.root), chain, WALL)


def test_node_is_no_issuer() -> None:
    node_leaf, _ = MESH.node_chain(NODE)
    victim = key(51)
    leaf = issue_node(Signer.issuer(NODE, node_leaf), victim.public_key(), MESH.name(victim), 9, WALL)

    assert "not an issuer's" in refused(MESH.root, [leaf, node_leaf])


def test_issuer_makes_no_issuer() -> None:
    leaf, second = chain_below_a_second_issuer(MESH)

    assert "not signed by" in refused(MESH.root, [leaf, second])
    assert "not 3" in refused(MESH.root, [leaf, second, MESH.issuer_certificate()])


def test_node_that_chose_its_place_is_refused() -> None:
    name = NodeName(MESH.id, NodeId(bytes(20)), "lab", GRANTED, NONCE)
    leaf = issue_node(MESH.signer(), NODE.public_key(), name, 9, WALL)

    assert "node id" in refused(MESH.root, [leaf, MESH.issuer_certificate()])


def test_invite_is_no_node_and_a_node_is_no_invite() -> None:
    assert "not the certificate of a node" in refused(MESH.root, MESH.invite_chain(INVITE))
    with pytest.raises(CertificateRefused, match="not the certificate of a invite"):
        verify_invite_chain(raw(MESH.root), MESH.node_chain(NODE), WALL)


def test_invite_that_ended_is_told_apart_from_a_forged_one() -> None:
    with pytest.raises(CertificateOutOfDate, match="ended at"):
        verify_invite_chain(raw(MESH.root), MESH.invite_chain(INVITE), WALL + 3600 + CLOCK_SKEW_S + 1)


def test_invite_without_its_issuer_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="its issuer's certificate"):
        verify_invite_chain(raw(MESH.root), MESH.invite_chain(INVITE)[:1], WALL)


def test_certificate_above_the_bound_is_refused_unparsed() -> None:
    assert "at most" in refused(MESH.root, [bytes(2049)])


def test_names_that_make_a_certificate_too_large_are_our_own_fault() -> None:
    operators = frozenset(f"{number:03d}" + "ü" * 61 for number in range(10))
    name = IssuerName(MESH.id, NodeId(bytes(20)), operators, GRANTED, frozenset())

    with pytest.raises(LocalProtocolError, match="name fewer"):
        issue_issuer(MESH.root, MESH.issuer.public_key(), name, 7, WALL)


@given(st.lists(st.binary(max_size=300), max_size=3))
def test_any_bytes_as_a_chain_are_refused_and_do_nothing_else(chain: list[bytes]) -> None:
    refused(MESH.root, chain)


@given(st.data())
def test_any_change_to_a_good_chain_is_refused_and_does_nothing_else(data: st.DataObject) -> None:
    chain = MESH.node_chain(NODE)
    which = data.draw(st.integers(0, 1))
    place = data.draw(st.integers(0, len(chain[which]) - 1))
    changed = bytearray(chain[which])
    changed[place] ^= data.draw(st.integers(1, 255))
    chain[which] = bytes(changed)

    refused(MESH.root, chain)


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("operator=lab", "operator=%6Cab"),
        ("role=submitter&role=worker", "role=worker&role=submitter"),
        ("role=submitter", "role=submitter&role=submitter"),
        ("role=submitter", "role=king"),
        ("operator=lab", "operator=lab&operator=lab"),
        ("operator=lab", "operator="),
        ("operator=lab", "operator=la+b"),
        ("operator=lab", "operator=%FF"),
        ("operator=lab", "operator=lab%00"),
        ("operator=lab", "operator=lab&colour=red"),
        ("/node/", "/issuer/"),
        ("meshd://", "MESHD://"),
        ("nonce=00", "nonce="),
        ("nonce=000102", "nonce= 00102"),
    ],
)
def test_name_has_one_spelling(old: str, new: str) -> None:
    uri = MESH.name(NODE).uri()
    assert old in uri
    assert NodeName.parse(uri) == MESH.name(NODE)

    with pytest.raises(CertificateRefused):
        NodeName.parse(uri.replace(old, new))


@pytest.mark.parametrize("uses", ["0", "-1", "+1", "01", "1_0", "10001", "9" * 5000, ""])
def test_uses_of_an_invite_are_a_plain_bounded_number(uses: str) -> None:
    uri = InviteName(MESH.id, bytes(20), "lab", GRANTED, 5).uri()

    with pytest.raises(CertificateRefused):
        InviteName.parse(uri.replace("uses=5", f"uses={uses}"))


@given(st.text(max_size=100))
def test_label_is_refused_or_comes_back_as_it_was(text: str) -> None:
    try:
        check_label(text)
    except LocalProtocolError:
        return
    name = RequestName(MESH.id, bytes(20), text, b"")
    assert RequestName.parse(name.uri()) == name


@given(st.text())
def test_any_text_is_a_name_or_refused(text: str) -> None:
    for kind in (NodeName, IssuerName, InviteName, RequestName):
        with pytest.raises(CertificateRefused):
            kind.parse(text)


# --- requests -------------------------------------------------------------------------------------------------------


def test_request_names_its_key_and_carries_the_invites_proof() -> None:
    request = joining_request(NODE, INVITE, MESH.id, "alice's laptop")

    requested = read_request(request, MESH.id)

    assert (requested.name.label, requested.key) == ("alice's laptop", NODE.public_key())
    verify_admission_proof(requested, verify_invite_chain(raw(MESH.root), MESH.invite_chain(INVITE), WALL))


def test_seed_can_not_put_its_own_key_into_a_request_that_it_relays() -> None:
    """It sees the invite's certificate and a proof for the joiner's key, neither of which serves another key."""
    invited = verify_invite_chain(raw(MESH.root), MESH.invite_chain(INVITE), WALL)
    proof = read_request(joining_request(NODE, INVITE, MESH.id, "victim"), MESH.id).name.proof
    stolen = issuing._request(key(70), RequestName(MESH.id, issuing.key_id(raw(INVITE)), "victim", proof))
    own = joining_request(key(70), key(71), MESH.id, "victim")
    bare = issuing._request(key(70), RequestName(MESH.id, issuing.key_id(raw(INVITE)), "victim", b""))

    for request in (stolen, own, bare):
        with pytest.raises(CertificateRefused):
            verify_admission_proof(read_request(request, MESH.id), invited)


def test_request_for_another_mesh_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="another mesh"):
        read_request(joining_request(NODE, INVITE, Mesh(number=20).id, "x"), MESH.id)


def test_renewal_request_names_the_node_and_has_no_proof() -> None:
    requested = read_request(renewal_request(NODE, MESH.name(NODE), "x"), MESH.id)

    assert requested.name.holder == node_id(raw(NODE), NONCE)
    assert requested.name.proof == b""


@given(st.binary(max_size=300))
def test_any_bytes_as_a_request_are_refused_and_do_nothing_else(request_bytes: bytes) -> None:
    with pytest.raises(CertificateRefused):
        read_request(request_bytes, MESH.id)


@given(st.data())
def test_changed_request_is_refused(data: st.DataObject) -> None:
    request = bytearray(joining_request(NODE, INVITE, MESH.id, "x"))
    request[data.draw(st.integers(0, len(request) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(CertificateRefused):
        read_request(bytes(request), MESH.id)


# --- TLS ------------------------------------------------------------------------------------------------------------


def chain_below_a_second_issuer(mesh: Mesh) -> tuple[bytes, bytes]:
    """A node below an issuer that an issuer made."""
    second = key(80)
    name = IssuerName(mesh.id, NodeId(bytes(20)), frozenset({"lab"}), GRANTED, frozenset())
    signer = mesh.signer()
    builder = issuing._dated(signer, issuing._common_name("second"), second.public_key(), 3, mesh.wall, 3600)
    certificate = issuing._signed(
        issuing._named(issuing._authority(builder, path_length=0), signer, name.uri()), signer.key
    )
    leaf = issue_node(Signer.issuer(second, certificate), NODE.public_key(), mesh.name(NODE), 9, mesh.wall)
    return leaf, certificate


class Tls:
    """Contexts as the transport makes them, and a handshake over memory."""

    def __init__(self, folder: Path, mesh: Mesh) -> None:
        self.folder, self.mesh = folder, mesh

    def context(self, *, server: bool, chain: list[bytes], private: Ed25519PrivateKey) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=trust_anchor(raw(self.mesh.root)))
        certificates, key_file = self.folder / "chain.pem", self.folder / "key.pem"
        pem = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain]
        certificates.write_bytes(b"".join(pem))
        key_file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context.load_cert_chain(certificates, key_file)
        return context

    def shake(self, server_chain: list[bytes], client_chain: list[bytes], private: Ed25519PrivateKey = NODE) -> None:
        """Finish a handshake both ways, or raise what either side raised."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = self.context(server=True, chain=server_chain, private=NODE).wrap_bio(
            to_server, to_client, server_side=True
        )
        client = self.context(server=False, chain=client_chain, private=private).wrap_bio(to_client, to_server)
        waiting = [client, server]
        for _ in range(10):
            for side in list(waiting):
                try:
                    side.do_handshake()
                    waiting.remove(side)
                except ssl.SSLWantReadError:
                    continue
        assert not waiting, "the handshake came to a halt"


@pytest.fixture
def now() -> Mesh:
    """OpenSSL asks the real clock."""
    return Mesh(wall=time.time())


@pytest.fixture
def tls(tmp_path: Path, now: Mesh) -> Tls:
    return Tls(tmp_path, now)


def test_tls_verifies_a_good_chain_both_ways_from_the_roots_key_alone(tls: Tls, now: Mesh) -> None:
    chain = now.node_chain(NODE)
    by_root = [issue_node(Signer.root(now.root), NODE.public_key(), now.name(NODE), 9, now.wall)]

    tls.shake(chain, chain)
    tls.shake(chain, by_root)
    tls.shake(by_root, chain)


def test_tls_lets_an_invite_be_a_client_but_never_a_server(tls: Tls, now: Mesh) -> None:
    node, invite = now.node_chain(NODE), now.invite_chain(NODE)

    tls.shake(node, invite)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate purpose"):
        tls.shake(invite, node)


def forger_of(mesh: Mesh) -> list[bytes]:
    forger = key(90)
    name = IssuerName(mesh.id, NodeId(bytes(20)), frozenset({"lab"}), GRANTED, frozenset())
    signer = Signer(forger, issuing._root_name(mesh.id), issuing._ANCHOR_END, ())
    issuer = key(91)
    builder = issuing._dated(signer, issuing._common_name("forged"), issuer.public_key(), 3, mesh.wall, 3600)
    forged = issuing._signed(issuing._named(issuing._authority(builder, path_length=0), signer, name.uri()), forger)
    leaf = issue_node(Signer.issuer(issuer, forged), NODE.public_key(), mesh.name(NODE), 9, mesh.wall)
    return [leaf, forged]


def impostor_of(mesh: Mesh) -> list[bytes]:
    """A leaf below an anchor of the same name with the forger's key, which it brings along."""
    forger = key(90)
    name = issuing._root_name(mesh.id)
    builder = issuing._unsigned(name, name, forger.public_key(), 1, issuing._ANCHOR_BEGIN, issuing._ANCHOR_END)
    anchor = issuing._signed(issuing._authority(builder, path_length=1), forger)
    signer = Signer(forger, name, issuing._ANCHOR_END, ())
    return [issue_node(signer, NODE.public_key(), mesh.name(NODE), 9, mesh.wall), anchor]


def below_the_public_anchor_key(mesh: Mesh) -> list[bytes]:
    signer = Signer(issuing._ANCHOR_SIGNER, issuing._root_name(mesh.id), issuing._ANCHOR_END, ())
    return [issue_node(signer, NODE.public_key(), mesh.name(NODE), 9, mesh.wall)]


def below_a_leaf(mesh: Mesh) -> list[bytes]:
    leaf, issuer = mesh.node_chain(key(51))
    return [issue_node(Signer.issuer(key(51), leaf), NODE.public_key(), mesh.name(NODE), 9, mesh.wall), leaf, issuer]


def below_a_second_issuer(mesh: Mesh) -> list[bytes]:
    return [*chain_below_a_second_issuer(mesh), mesh.issuer_certificate()]


def ended(mesh: Mesh) -> list[bytes]:
    past = mesh.wall - NODE_CERTIFICATE_S - 3600
    leaf = issue_node(Signer.root(mesh.root), NODE.public_key(), mesh.name(NODE), 9, past)
    return [leaf]


def of_another_root(mesh: Mesh) -> list[bytes]:
    return Mesh(number=mesh.number + 20, wall=mesh.wall).node_chain(NODE)


@pytest.mark.parametrize(
    "forge",
    [
        of_another_root,
        forger_of,
        impostor_of,
        below_the_public_anchor_key,
        below_a_leaf,
        below_a_second_issuer,
        ended,
    ],
)
def test_tls_itself_refuses_what_the_root_did_not_make(tls: Tls, now: Mesh, forge: object) -> None:
    assert callable(forge)
    good, bad = now.node_chain(NODE), forge(now)

    with pytest.raises(ssl.SSLCertVerificationError):
        tls.shake(bad, good)
    with pytest.raises(ssl.SSLError):
        tls.shake(good, bad)
    with pytest.raises(RemoteProtocolError):
        verify_node_chain(raw(now.root), bad, now.wall)


def test_anchor_is_the_same_everywhere() -> None:
    first = trust_anchor(raw(MESH.root))
    trust_anchor.cache_clear()

    assert trust_anchor(raw(MESH.root)) == first
    assert raw(MESH.root) in first


def test_serial_is_positive_whatever_the_entropy() -> None:
    assert issuing.serial_from(bytes(20)) == 1
    assert 0 < issuing.serial_from(os.urandom(20)) < 1 << 159
