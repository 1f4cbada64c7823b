"""Revocations: what ends a node's certificates early, and whose word does. Spec: 09-admission.md, section 6.

All bytes here may come from an attacker. Nothing here asks which revocations are held: the set only grows.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from meshd_protocol.certificates import Certified, issuer_key, verify_issuer
from meshd_protocol.errors import CertificateOutOfDate, LocalProtocolError, MalformedMessage, NotAllowed
from meshd_protocol.ids import mesh_id, to_text
from meshd_protocol.issuing import Signer
from meshd_protocol.limits import CLOCK_SKEW_S, REVOCATION_BYTES_MAX, REVOCATION_S
from meshd_protocol.messages.membership import SignedRevocation
from meshd_protocol.records import Revocation, decode_record, encode_record
from meshd_protocol.signing import Domain, Signed, sign, verify


def make_revocation(signer: Signer, revocation: Revocation) -> SignedRevocation:
    """Sign as the root or as an issuer. Whether that issuer may, `verify_revocation` says, to us as to everybody."""
    body = encode_record(revocation)
    if len(body) > REVOCATION_BYTES_MAX:
        raise LocalProtocolError(
            f"this revocation has {len(body)} bytes of {REVOCATION_BYTES_MAX}: give a shorter reason"
        )
    signed = sign(signer.key, Domain.REVOCATION, body)
    return SignedRevocation(body, signed.signature, signer.chain[0] if signer.chain else b"")


def read_revocation(root_key: bytes, signed: SignedRevocation, wall: float) -> Revocation:
    """Read what is revoked, if it is of this mesh and still in force: no signature is checked.

    Raise `CertificateOutOfDate` for one that has ended, or that ends later than an honest one can: clocks differ, so
    that need not be the fault of whoever passed it on.
    """
    revocation = decode_record(Revocation, signed.body)
    if revocation.mesh != mesh_id(root_key):
        raise MalformedMessage("a revocation of another mesh")
    left_s = revocation.until_ms / 1_000 - wall
    if left_s <= 0:
        raise CertificateOutOfDate(f"the revocation of {to_text(revocation.node)} has ended by this clock")
    if left_s > REVOCATION_S + CLOCK_SKEW_S:
        # Nobody may fill the set for ever.
        days = REVOCATION_S // 86_400
        raise CertificateOutOfDate(f"the revocation of {to_text(revocation.node)} lasts for more than {days} days")
    return revocation


def verify_revocation(root_key: bytes, signed: SignedRevocation, wall: float) -> Revocation:
    """Return what is revoked, if the root, or an issuer that may revoke that operator's nodes, says so.

    Costs one signature check, or two if an issuer signed. It is about the nodes of the operator that it names: see
    `revokes`.
    """
    revocation = read_revocation(root_key, signed, wall)
    verify(_key_of_signer(root_key, signed, revocation, wall), Domain.REVOCATION, Signed(signed.body, signed.signature))
    return revocation


def revokes(revocation: Revocation, certified: Certified) -> bool:
    """Whether it ends this certificate.

    An issuer chooses which operator it names, and proves only that it may revoke that one's nodes: so its word is
    worth nothing against a certificate of another operator, though the node id were the same.
    """
    return revocation.node == certified.node and revocation.operator == certified.operator


def _key_of_signer(root_key: bytes, signed: SignedRevocation, revocation: Revocation, wall: float) -> Ed25519PublicKey:
    if not signed.issuer:
        return Ed25519PublicKey.from_public_bytes(root_key)
    grant = verify_issuer(root_key, signed.issuer, wall)
    if not grant.may_revoke(revocation.operator):
        raise NotAllowed(f"its issuer may not revoke nodes of operator {revocation.operator!r}")
    return issuer_key(signed.issuer)
