"""Revocations: whose word ends whose certificates. What must be refused by name is in vectors/revocations.json."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from meshd_protocol.certificates import Certified, Role, verify_node_chain
from meshd_protocol.errors import CertificateOutOfDate, LocalProtocolError, RemoteProtocolError
from meshd_protocol.ids import NodeId, mesh_id, node_id
from meshd_protocol.issuing import Signer, issue_issuer, issue_node
from meshd_protocol.limits import ISSUER_CERTIFICATE_S, REVOCATION_BYTES_MAX, REVOCATION_S
from meshd_protocol.messages.membership import SignedRevocation
from meshd_protocol.names import IssuerName, NodeName
from meshd_protocol.records import Revocation
from meshd_protocol.revocations import make_revocation, read_revocation, revokes, verify_revocation

WALL = 1_800_000_000.0
ROOT, ISSUER, NODE = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
ROOT_KEY = ROOT.public_key().public_bytes_raw()
MESH = mesh_id(ROOT_KEY)
NONCE = bytes(16)
NODE_ID = node_id(NODE.public_key().public_bytes_raw(), NONCE)


def issuer_signer() -> Signer:
    name = IssuerName(MESH, NodeId(bytes(20)), frozenset({"lab"}), frozenset({Role.WORKER}), frozenset({"guests"}))
    return Signer.issuer(ISSUER, issue_issuer(ROOT, ISSUER.public_key(), name, 7, WALL))


def certified(operator: str) -> Certified:
    name = NodeName(MESH, NODE_ID, operator, frozenset({Role.WORKER}), NONCE)
    return verify_node_chain(ROOT_KEY, [issue_node(Signer.root(ROOT), NODE.public_key(), name, 9, WALL)], WALL)


def revocation(operator: str = "lab", *, until: float = WALL + REVOCATION_S, reason: str = "stolen") -> Revocation:
    return Revocation(MESH, NODE_ID, operator, int(until * 1_000), reason)


@pytest.mark.parametrize("operator", ["lab", "guests"])
def test_issuer_revokes_nodes_of_the_operators_that_it_makes_or_that_the_root_listed(operator: str) -> None:
    signed = make_revocation(issuer_signer(), revocation(operator))

    assert verify_revocation(ROOT_KEY, signed, WALL) == revocation(operator)
    assert revokes(revocation(operator), certified(operator))


def test_certificate_of_another_operator_is_not_touched_though_the_node_is_the_same() -> None:
    """An issuer proves that it may revoke the operator that it wrote down, not that the node is of that operator."""
    signed = make_revocation(issuer_signer(), revocation("lab"))

    assert not revokes(verify_revocation(ROOT_KEY, signed, WALL), certified("somebody else"))


def test_root_revokes_anybody_without_a_certificate() -> None:
    signed = make_revocation(Signer.root(ROOT), revocation("somebody else"))

    assert signed.issuer == b""
    assert verify_revocation(ROOT_KEY, signed, WALL).operator == "somebody else"


def test_revocation_by_an_issuer_that_has_ended_is_news_to_nobody() -> None:
    wall = WALL + ISSUER_CERTIFICATE_S + 1_000
    signed = make_revocation(issuer_signer(), revocation(until=wall + 3_600))

    with pytest.raises(CertificateOutOfDate, match="ended"):
        verify_revocation(ROOT_KEY, signed, wall)
    assert read_revocation(ROOT_KEY, signed, wall).node == NODE_ID, "who held it before still holds it"


def test_reason_that_does_not_fit_is_refused_before_anything_is_signed() -> None:
    with pytest.raises(LocalProtocolError, match=f"of {REVOCATION_BYTES_MAX}: give a shorter reason"):
        make_revocation(issuer_signer(), revocation(reason="é" * 200 + "∀" * 100))


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=120), signature=st.binary(min_size=64, max_size=64), issuer=st.binary(max_size=80))
def test_any_bytes_are_a_revocation_or_the_peers_fault(body: bytes, signature: bytes, issuer: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        verify_revocation(ROOT_KEY, SignedRevocation(body, signature, issuer), WALL)


GOOD = make_revocation(issuer_signer(), revocation())


@settings(max_examples=300, deadline=None)
@given(data=st.data(), field=st.sampled_from(["body", "signature", "issuer"]))
def test_one_changed_byte_anywhere_makes_it_worthless(data: st.DataObject, field: str) -> None:
    original: bytes = getattr(GOOD, field)
    at = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(RemoteProtocolError):
        verify_revocation(ROOT_KEY, replace(GOOD, **{field: bytes(changed)}), WALL)
