"""Certificates: what a verified chain proves, and every reason to refuse one. Spec: 09-admission.md, section 3.

TLS checks chains as well, by the same anchor and by its own code. These checks add what X.509 does not know: the
mesh, the NodeId, and what an issuer may grant. All bytes here may come from an attacker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from meshd_protocol.errors import BadSignature, CertificateOutOfDate, CertificateRefused
from meshd_protocol.ids import MeshId, NodeId, mesh_id, node_id, to_text
from meshd_protocol.issuing import INVITE_PURPOSES, NODE_PURPOSES, key_id, trust_anchor
from meshd_protocol.limits import CERTIFICATE_BYTES_MAX, CLOCK_SKEW_S
from meshd_protocol.names import InviteName, IssuerName, NodeName, RequestName, Role, admission_proof_body
from meshd_protocol.signing import Domain, Signed, verify

__all__ = [
    "Certified",
    "Invited",
    "Requested",
    "Role",
    "issuer_key",
    "read_node_name",
    "read_request",
    "trust_anchor",
    "verify_admission_proof",
    "verify_invite_chain",
    "verify_issuer",
    "verify_node_chain",
]

# All that the parser raises on bytes of an attacker; it also warns (of a negative serial, for one).
_PARSER_ERRORS: Final = (
    ValueError,
    TypeError,
    UserWarning,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
_KNOWN_CRITICAL: Final = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)


@dataclass(frozen=True, slots=True)
class Certified:
    """What a node's verified chain proves. Times are seconds since 1970; `chain` is its own DER, then its issuer's."""

    mesh: MeshId
    node: NodeId
    operator: str
    roles: frozenset[Role]
    key: Ed25519PublicKey
    not_before: float
    not_after: float
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Invited:
    """What the holder of an invite's key may ask for. `issuer` is the id of the key that signed the invite."""

    mesh: MeshId
    operator: str
    roles: frozenset[Role]
    uses: int
    serial: int
    key: Ed25519PublicKey
    issuer: bytes
    issuer_node: NodeId
    not_after: float
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Requested:
    """A signing request whose sender holds `key`. Whether it may be granted, `name` and its proof must show."""

    name: RequestName
    key: Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class _Read:
    """A certificate's parts that matter, all parsed, none believed."""

    certificate: x509.Certificate
    der: bytes
    key: Ed25519PublicKey
    uri: str
    constraints: x509.BasicConstraints
    usage: x509.KeyUsage
    purposes: frozenset[x509.ObjectIdentifier]

    @property
    def begins(self) -> float:
        return self.certificate.not_valid_before_utc.timestamp()

    @property
    def ends(self) -> float:
        return self.certificate.not_valid_after_utc.timestamp()


def verify_node_chain(root_key: bytes, chain: Sequence[bytes], wall: float) -> Certified:
    """Verify a node's certificate, then its issuer's unless the root signed it. Costs two signature checks."""
    leaf, issuer = _read_chain(chain, NODE_PURPOSES, "node")
    name = NodeName.parse(leaf.uri)
    _check_mesh(root_key, name.mesh)
    if name.node != node_id(leaf.key.public_bytes_raw(), name.nonce):
        raise CertificateRefused("the node id in this certificate is not made of its key")
    if issuer is not None:
        _check_grant(IssuerName.parse(issuer.uri), name)
    _verify_links(root_key, leaf, issuer, wall)
    return Certified(
        name.mesh, name.node, name.operator, name.roles, leaf.key, leaf.begins, leaf.ends, _ders(leaf, issuer)
    )


def verify_invite_chain(root_key: bytes, chain: Sequence[bytes], wall: float) -> Invited:
    """Verify an invite's certificate and its issuer's. Raise `CertificateOutOfDate` if it only came too late."""
    leaf, issuer = _read_chain(chain, INVITE_PURPOSES, "invite")
    if issuer is None:
        raise CertificateRefused("an invite comes with its issuer's certificate")
    name, grant = InviteName.parse(leaf.uri), IssuerName.parse(issuer.uri)
    _check_mesh(root_key, name.mesh)
    if name.key != key_id(leaf.key.public_bytes_raw()):
        raise CertificateRefused("this invite's name is not made of its key")
    _check_grant(grant, name)
    _verify_links(root_key, leaf, issuer, wall)
    return Invited(
        mesh=name.mesh,
        operator=name.operator,
        roles=name.roles,
        uses=name.uses,
        serial=leaf.certificate.serial_number,
        key=leaf.key,
        issuer=key_id(issuer.key.public_bytes_raw()),
        issuer_node=grant.node,
        not_after=leaf.ends,
        chain=_ders(leaf, issuer),
    )


def verify_issuer(root_key: bytes, certificate: bytes, wall: float) -> IssuerName:
    """Verify an issuer's certificate by itself; return what it may grant."""
    issuer = _read_issuer(certificate)
    name = IssuerName.parse(issuer.uri)
    _check_mesh(root_key, name.mesh)
    _verify_link(issuer, x509.load_der_x509_certificate(trust_anchor(root_key)), wall, "issuer's certificate")
    return name


def issuer_key(certificate: bytes) -> Ed25519PublicKey:
    """The key in an issuer's certificate that was verified before."""
    return _read_issuer(certificate).key


def read_node_name(certificate: bytes) -> NodeName:
    """The name in a certificate that was verified before."""
    return NodeName.parse(_read(certificate).uri)


def read_request(request: bytes, mesh: MeshId) -> Requested:
    """Check that a signing request is well formed, of this mesh, and signed by the key it names."""
    if len(request) > CERTIFICATE_BYTES_MAX:
        raise CertificateRefused(f"a signing request has at most {CERTIFICATE_BYTES_MAX} bytes")
    try:
        parsed = x509.load_der_x509_csr(request)
        key = _ed25519(parsed.public_key())
        uri = _only_uri(parsed.extensions)
        genuine = parsed.is_signature_valid
    except (*_PARSER_ERRORS, InvalidSignature) as error:
        raise CertificateRefused(f"not a signing request: {error}") from error
    if not genuine:
        raise CertificateRefused("this signing request is not signed by the key it names")
    name = RequestName.parse(uri)
    if name.mesh != mesh:
        raise CertificateRefused("this signing request is for another mesh")
    return Requested(name, key)


def verify_admission_proof(requested: Requested, invited: Invited) -> None:
    """Check that whoever holds the invite's key asks for exactly this key, whichever seeds the request came through."""
    name = requested.name
    if name.holder != key_id(invited.key.public_bytes_raw()):
        raise CertificateRefused("this signing request names another invite")
    body = admission_proof_body(requested.key.public_bytes_raw(), name.label)
    if not name.proof:
        raise CertificateRefused("this signing request lacks the invite's proof")
    try:
        verify(invited.key, Domain.ADMISSION, Signed(body, name.proof))
    except BadSignature as error:
        raise CertificateRefused("this signing request was not made with the invite's key") from error


def _read_chain(
    chain: Sequence[bytes], purposes: frozenset[x509.ObjectIdentifier], what: str
) -> tuple[_Read, _Read | None]:
    if not 1 <= len(chain) <= 2:
        raise CertificateRefused(f"a chain has one or two certificates, not {len(chain)}")
    leaf = _read(chain[0])
    if leaf.constraints.ca or leaf.usage.key_cert_sign or leaf.purposes != purposes:
        raise CertificateRefused(f"this is not the certificate of a {what}")
    return leaf, _read_issuer(chain[1]) if len(chain) == 2 else None


def _read_issuer(der: bytes) -> _Read:
    issuer = _read(der)
    if not issuer.constraints.ca or issuer.constraints.path_length != 0 or not issuer.usage.key_cert_sign:
        raise CertificateRefused("this chain's second certificate is not an issuer's")
    return issuer


def _read(der: bytes) -> _Read:
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise CertificateRefused(f"a certificate has at most {CERTIFICATE_BYTES_MAX} bytes, not {len(der)}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
        for extension in extensions:
            if extension.critical and not isinstance(extension.value, _KNOWN_CRITICAL):
                raise CertificateRefused(f"unknown critical extension {extension.oid.dotted_string}")
        return _Read(
            certificate=certificate,
            der=bytes(der),
            key=_ed25519(certificate.public_key()),
            uri=_only_uri(extensions),
            constraints=extensions.get_extension_for_class(x509.BasicConstraints).value,
            usage=extensions.get_extension_for_class(x509.KeyUsage).value,
            purposes=_purposes(extensions),
        )
    except _PARSER_ERRORS as error:
        raise CertificateRefused(f"not a certificate of a mesh: {error}") from error


def _ed25519(key: object) -> Ed25519PublicKey:
    if not isinstance(key, Ed25519PublicKey):
        raise CertificateRefused("its key is not Ed25519")
    return key


def _only_uri(extensions: x509.Extensions) -> str:
    names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise CertificateRefused("it must have exactly one name, a URI")
    return names[0].value


def _purposes(extensions: x509.Extensions) -> frozenset[x509.ObjectIdentifier]:
    try:
        return frozenset(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return frozenset()


def _check_mesh(root_key: bytes, mesh: MeshId) -> None:
    ours = mesh_id(root_key)
    if mesh != ours:
        raise CertificateRefused(f"it is of the mesh {to_text(mesh)}, not of {to_text(ours)}")


def _check_grant(grant: IssuerName, name: NodeName | InviteName) -> None:
    if grant.mesh != name.mesh:
        raise CertificateRefused("its issuer is of another mesh")
    if grant.may_grant(name.operator, name.roles):
        return
    if name.operator not in grant.operators:
        raise CertificateRefused(f"its issuer may not make nodes of operator {name.operator!r}")
    excess = ", ".join(sorted(name.roles - grant.roles))
    raise CertificateRefused(f"its issuer may not grant the role {excess}")


def _verify_links(root_key: bytes, leaf: _Read, issuer: _Read | None, wall: float) -> None:
    anchor = x509.load_der_x509_certificate(trust_anchor(root_key))
    if issuer is None:
        _verify_link(leaf, anchor, wall, "certificate")
        return
    _verify_link(issuer, anchor, wall, "issuer's certificate")
    _verify_link(leaf, issuer.certificate, wall, "certificate")


def _verify_link(read: _Read, issuer: x509.Certificate, wall: float, what: str) -> None:
    try:
        read.certificate.verify_directly_issued_by(issuer)
    except (*_PARSER_ERRORS, InvalidSignature) as error:
        raise CertificateRefused(f"this {what} was not signed by whom it names") from error
    _check_dates(read, wall, what)


def _check_dates(read: _Read, wall: float, what: str) -> None:
    if wall > read.ends + CLOCK_SKEW_S:
        raise CertificateOutOfDate(f"this {what} ended at {_when(read.ends)}, and it is {_when(wall)} by this clock")
    if wall < read.begins - CLOCK_SKEW_S:
        raise CertificateOutOfDate(
            f"this {what} begins at {_when(read.begins)}, but it is {_when(wall)} by this clock: set the clock"
        )


def _when(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _ders(leaf: _Read, issuer: _Read | None) -> tuple[bytes, ...]:
    return (leaf.der,) if issuer is None else (leaf.der, issuer.der)
