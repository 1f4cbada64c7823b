"""Making certificates and requests for them. Keys, nonces, serials and times are arguments. Spec: 09-admission.md.

Nothing here asks whether the issuer may grant what it grants: `certificates` does, for everybody.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshd_protocol.errors import LocalProtocolError
from meshd_protocol.ids import ID_BYTES, MeshId, mesh_id, to_text
from meshd_protocol.limits import BACKDATE_S, CERTIFICATE_BYTES_MAX, ISSUER_CERTIFICATE_S, NODE_CERTIFICATE_S
from meshd_protocol.names import InviteName, IssuerName, NodeName, RequestName, admission_proof_body
from meshd_protocol.signing import Domain, sign

NODE_PURPOSES: Final = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})
# An invite can not be a server: TLS itself refuses it, so a token can not be used to catch other joiners.
INVITE_PURPOSES: Final = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH})

# Signs every anchor. Anybody may know it: an anchor is a name and a key (RFC 5280, 6.1.1 d), its signature proves
# nothing and is checked by nobody.
_ANCHOR_SIGNER: Final = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"meshd/anchor/1").digest())
_ANCHOR_BEGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
_ANCHOR_END: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
# X.509 bounds serials to 20 bytes, positive.
SERIAL_BYTES: Final = 20


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: the root, or an issuer with its own certificate (`chain` is what travels behind what it signs)."""

    key: Ed25519PrivateKey
    name: x509.Name
    ends: datetime
    chain: tuple[bytes, ...]

    @classmethod
    def root(cls, key: Ed25519PrivateKey) -> "Signer":
        """Sign as the mesh's root."""
        return cls(key, _root_name(mesh_id(key.public_key().public_bytes_raw())), _ANCHOR_END, ())

    @classmethod
    def issuer(cls, key: Ed25519PrivateKey, certificate: bytes) -> "Signer":
        """Sign as the issuer of a certificate of our own."""
        own = x509.load_der_x509_certificate(certificate)
        if own.public_key() != key.public_key():
            raise LocalProtocolError("the issuer's key is not that of its certificate")
        return cls(key, own.subject, own.not_valid_after_utc, (certificate,))


def key_id(key: bytes) -> bytes:
    """Name a public key in certificates: RFC 7093, method 1."""
    return hashlib.sha256(key).digest()[:ID_BYTES]


def serial_from(entropy: bytes) -> int:
    """Make a serial of 20 random bytes: positive, and below the 159 bits that X.509 allows."""
    assert len(entropy) == SERIAL_BYTES, "a serial takes 20 bytes"
    return (int.from_bytes(entropy, "big") >> 1) or 1


@lru_cache(maxsize=8)
def trust_anchor(root_key: bytes) -> bytes:
    """Rebuild the root's certificate (DER), the same everywhere, from its 32-byte public key alone."""
    key = Ed25519PublicKey.from_public_bytes(root_key)
    name = _root_name(mesh_id(root_key))
    builder = _unsigned(name, name, key, 1, _ANCHOR_BEGIN, _ANCHOR_END)
    return _signed(_authority(builder, path_length=1), _ANCHOR_SIGNER)


def issue_issuer(root: Ed25519PrivateKey, key: Ed25519PublicKey, name: IssuerName, serial: int, wall: float) -> bytes:
    """Let `key` sign what `name` lists."""
    signer = Signer.root(root)
    subject = _common_name(f"meshd issuer {to_text(key_id(key.public_bytes_raw()))}")
    builder = _dated(signer, subject, key, serial, wall, ISSUER_CERTIFICATE_S)
    return _signed(_named(_authority(builder, path_length=0), signer, name.uri()), signer.key)


def issue_node(signer: Signer, key: Ed25519PublicKey, name: NodeName, serial: int, wall: float) -> bytes:
    """Make a node of `key`, until 90 days from now or the issuer's own end."""
    builder = _dated(signer, _common_name(to_text(name.node)), key, serial, wall, NODE_CERTIFICATE_S)
    return _signed(_named(_leaf(builder, NODE_PURPOSES), signer, name.uri()), signer.key)


def issue_invite(
    signer: Signer, key: Ed25519PublicKey, name: InviteName, serial: int, wall: float, ttl_s: float
) -> bytes:
    """Let holders of `key` hand in signing requests until `ttl_s` from now."""
    builder = _dated(signer, _common_name("meshd invite"), key, serial, wall, ttl_s)
    return _signed(_named(_leaf(builder, INVITE_PURPOSES), signer, name.uri()), signer.key)


def joining_request(node: Ed25519PrivateKey, invite: Ed25519PrivateKey, mesh: MeshId, label: str) -> bytes:
    """Ask, with an invite's key, that `node` becomes a node."""
    body = admission_proof_body(node.public_key().public_bytes_raw(), label)
    proof = sign(invite, Domain.ADMISSION, body).signature
    holder = key_id(invite.public_key().public_bytes_raw())
    return _request(node, RequestName(mesh, holder, label, proof))


def renewal_request(node: Ed25519PrivateKey, name: NodeName, label: str) -> bytes:
    """Ask, over a link that proves who we are, for a new certificate of the same name."""
    return _request(node, RequestName(name.mesh, name.node, label, b""))


def _request(node: Ed25519PrivateKey, name: RequestName) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(_common_name("meshd request"))
    request = builder.add_extension(_uri_name(name.uri()), critical=False).sign(node, None)
    return _bounded(request.public_bytes(Encoding.DER))


def _root_name(mesh: MeshId) -> x509.Name:
    return _common_name(f"meshd {to_text(mesh)}")


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _uri_name(uri: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


def _dated(
    signer: Signer, subject: x509.Name, key: Ed25519PublicKey, serial: int, wall: float, life_s: float
) -> x509.CertificateBuilder:
    begin = datetime.fromtimestamp(int(wall) - BACKDATE_S, UTC)
    end = min(datetime.fromtimestamp(int(wall + life_s), UTC), signer.ends)
    if end <= begin:
        raise LocalProtocolError(
            f"the issuer's own certificate ended on {signer.ends:%Y-%m-%d}: renew it with the root"
        )
    return _unsigned(signer.name, subject, key, serial, begin, end)


def _unsigned(
    issuer: x509.Name, subject: x509.Name, key: Ed25519PublicKey, serial: int, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key, serial, begin, end)
    # RFC 5280 wants both key ids; OpenSSL's strict mode insists, and picks the issuer by them.
    return builder.add_extension(x509.SubjectKeyIdentifier(key_id(key.public_bytes_raw())), critical=False)


def _authority(builder: x509.CertificateBuilder, path_length: int) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.add_extension(_usage(signs_certificates=True), critical=True)


def _leaf(builder: x509.CertificateBuilder, purposes: frozenset[x509.ObjectIdentifier]) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    ordered = sorted(purposes, key=lambda purpose: purpose.dotted_string)
    return builder.add_extension(x509.ExtendedKeyUsage(ordered), critical=False)


def _named(builder: x509.CertificateBuilder, signer: Signer, uri: str) -> x509.CertificateBuilder:
    authority = key_id(signer.key.public_key().public_bytes_raw())
    builder = builder.add_extension(x509.AuthorityKeyIdentifier(authority, None, None), critical=False)
    return builder.add_extension(_uri_name(uri), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: Ed25519PrivateKey) -> bytes:
    return _bounded(builder.sign(key, None).public_bytes(Encoding.DER))


def _bounded(der: bytes) -> bytes:
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise LocalProtocolError(f"the names make {len(der)} bytes, {CERTIFICATE_BYTES_MAX} are allowed: name fewer")
    return der
