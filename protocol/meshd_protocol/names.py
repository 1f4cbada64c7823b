"""Names in certificates: `meshd://MESH/KIND/ID?…` URIs, each with one spelling. Spec: 09-admission.md, section 2.

A name is read leniently, written again and compared: whatever is not exactly what we would write is refused.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import quote, unquote

from meshd_protocol.errors import CertificateRefused, LocalProtocolError, MalformedId
from meshd_protocol.ids import ID_BYTES, NONCE_BYTES, MeshId, NodeId, from_text, to_text
from meshd_protocol.limits import INVITE_USES_MAX, OPERATOR_CHARS_MAX, ROLES_MAX

_URI: Final = re.compile(r"meshd://([a-z2-7]{32})/([a-z]+)/([a-z2-7]{32})\?([!-~]*)")
_Parameters = dict[str, list[str]]


class Role(StrEnum):
    """What a certificate allows. A role that is not in the certificate does not exist."""

    WORKER = "worker"
    SUBMITTER = "submitter"
    ISSUER = "issuer"
    COORDINATOR = "coordinator"
    TRUSTED = "trusted"


@dataclass(frozen=True, slots=True)
class NodeName:
    """What a node's certificate says. `nonce` is its issuer's choice and, with the key, makes the NodeId."""

    mesh: MeshId
    node: NodeId
    operator: str
    roles: frozenset[Role]
    nonce: bytes

    def __post_init__(self) -> None:
        _check_ids(self.mesh, self.node)
        _check(len(self.nonce) == NONCE_BYTES, f"a nonce has {NONCE_BYTES} bytes")
        check_label(self.operator)

    def uri(self) -> str:
        """Its one spelling."""
        parameters = [("operator", self.operator), *_roles(self.roles), ("nonce", self.nonce.hex())]
        return _uri(self.mesh, "node", self.node, parameters)

    @classmethod
    def parse(cls, uri: str) -> "NodeName":
        """Read it; raise `CertificateRefused`."""
        mesh, node, given = _split(uri, "node")
        try:
            nonce = bytes.fromhex(_one(given, "nonce"))
            name = cls(mesh, NodeId(node), _one(given, "operator"), _read_roles(given), nonce)
        except (ValueError, LocalProtocolError) as error:
            raise CertificateRefused(f"not a node's name: {error}") from error
        return _canonical(name, uri)


@dataclass(frozen=True, slots=True)
class IssuerName:
    """What an issuer's certificate says: on which node it is asked, and what it may grant.

    It may revoke nodes of the operators that it may make, and of those in `revokes`.
    """

    mesh: MeshId
    node: NodeId
    operators: frozenset[str]
    roles: frozenset[Role]
    revokes: frozenset[str]

    def __post_init__(self) -> None:
        _check_ids(self.mesh, self.node)
        for operator in self.operators | self.revokes:
            check_label(operator)

    def may_grant(self, operator: str, roles: frozenset[Role]) -> bool:
        """Whether the root let this issuer make such a node."""
        return operator in self.operators and roles <= self.roles

    def may_revoke(self, operator: str) -> bool:
        """Whether its word ends the certificates of this operator's nodes."""
        return operator in self.operators or operator in self.revokes

    def uri(self) -> str:
        """Its one spelling."""
        operators = [("operator", operator) for operator in sorted(self.operators)]
        revokes = [("revokes", operator) for operator in sorted(self.revokes)]
        return _uri(self.mesh, "issuer", self.node, [*operators, *_roles(self.roles), *revokes])

    @classmethod
    def parse(cls, uri: str) -> "IssuerName":
        """Read it; raise `CertificateRefused`."""
        mesh, node, given = _split(uri, "issuer")
        operators, revokes = frozenset(given.get("operator", [])), frozenset(given.get("revokes", []))
        try:
            name = cls(mesh, NodeId(node), operators, _read_roles(given), revokes)
        except (ValueError, LocalProtocolError) as error:
            raise CertificateRefused(f"not an issuer's name: {error}") from error
        return _canonical(name, uri)


@dataclass(frozen=True, slots=True)
class InviteName:
    """What an invite's certificate says: what its holders may become, and how many of them. `key` is its key's id."""

    mesh: MeshId
    key: bytes
    operator: str
    roles: frozenset[Role]
    uses: int

    def __post_init__(self) -> None:
        _check_ids(self.mesh, self.key)
        _check(1 <= self.uses <= INVITE_USES_MAX, f"an invite has 1 to {INVITE_USES_MAX} uses")
        check_label(self.operator)

    def uri(self) -> str:
        """Its one spelling."""
        parameters = [("operator", self.operator), *_roles(self.roles), ("uses", str(self.uses))]
        return _uri(self.mesh, "invite", self.key, parameters)

    @classmethod
    def parse(cls, uri: str) -> "InviteName":
        """Read it; raise `CertificateRefused`."""
        mesh, key, given = _split(uri, "invite")
        try:
            uses = _read_uses(_one(given, "uses"))
            name = cls(mesh, key, _one(given, "operator"), _read_roles(given), uses)
        except (ValueError, LocalProtocolError) as error:
            raise CertificateRefused(f"not an invite's name: {error}") from error
        return _canonical(name, uri)


@dataclass(frozen=True, slots=True)
class RequestName:
    """What a signing request says.

    `holder` is the invite's key id, or the NodeId of a node that renews. `proof` is the invite key's signature over
    `admission_proof_body`, empty when a node renews: without it a seed could use up the invites it relays for itself.
    """

    mesh: MeshId
    holder: bytes
    label: str
    proof: bytes

    def __post_init__(self) -> None:
        _check_ids(self.mesh, self.holder)
        _check(len(self.proof) in {0, 64}, "a proof has 64 bytes")
        check_label(self.label)

    def uri(self) -> str:
        """Its one spelling."""
        return _uri(self.mesh, "request", self.holder, [("name", self.label), ("proof", self.proof.hex())])

    @classmethod
    def parse(cls, uri: str) -> "RequestName":
        """Read it; raise `CertificateRefused`."""
        mesh, holder, given = _split(uri, "request")
        try:
            name = cls(mesh, holder, _one(given, "name"), bytes.fromhex(_one(given, "proof")))
        except (ValueError, LocalProtocolError) as error:
            raise CertificateRefused(f"not a request's name: {error}") from error
        return _canonical(name, uri)


def admission_proof_body(node_key: bytes, label: str) -> bytes:
    """What the invite's key signs in `Domain.ADMISSION`: the key that is to become a node, and its label."""
    return node_key + label.encode()


def check_label(text: str) -> str:
    """Return an operator's or a node's label; raise `LocalProtocolError` if two people could read it differently."""
    _check(0 < len(text) <= OPERATOR_CHARS_MAX, f"a name has 1 to {OPERATOR_CHARS_MAX} characters, not {len(text)}")
    # Invisible or decomposed characters would let one operator look like another.
    plain = text.isprintable() and text == text.strip() and unicodedata.is_normalized("NFKC", text)
    _check(plain, f"{text!r} can not be a name: use plain printable characters, no space at the ends")
    return text


def _check(holds: bool, text: str) -> None:
    if not holds:
        raise LocalProtocolError(text)


def _check_ids(*identifiers: bytes) -> None:
    _check(all(len(identifier) == ID_BYTES for identifier in identifiers), f"an id has {ID_BYTES} bytes")


def _uri(mesh: MeshId, kind: str, identifier: bytes, parameters: Iterable[tuple[str, str]]) -> str:
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in parameters)
    return f"meshd://{to_text(mesh)}/{kind}/{to_text(identifier)}?{query}"


def _split(uri: str, kind: str) -> tuple[MeshId, bytes, _Parameters]:
    found = _URI.fullmatch(uri)
    if found is None or found[2] != kind:
        raise CertificateRefused(f"this certificate does not name a {kind}: {uri[:80]!r}")
    given: _Parameters = {}
    try:
        for pair in found[4].split("&"):
            key, _, value = pair.partition("=")
            given.setdefault(key, []).append(unquote(value, errors="strict"))
        return MeshId(from_text(found[1])), from_text(found[3]), given
    except (UnicodeDecodeError, MalformedId) as error:
        raise CertificateRefused(f"not the name of a {kind}: {error}") from error


def _one(given: _Parameters, key: str) -> str:
    values = given.get(key, [])
    if len(values) != 1:
        raise ValueError(f"{key} is given {len(values)} times")
    return values[0]


def _roles(roles: frozenset[Role]) -> list[tuple[str, str]]:
    return [("role", role) for role in sorted(roles)]


def _read_roles(given: _Parameters) -> frozenset[Role]:
    values = given.get("role", [])
    if len(values) > ROLES_MAX:
        raise ValueError(f"{len(values)} roles")
    return frozenset(Role(value) for value in values)


def _read_uses(text: str) -> int:
    # Bounded before it is converted: a number of a thousand digits is not worth its time.
    if len(text) > len(str(INVITE_USES_MAX)):
        raise ValueError("too many uses")
    return int(text)


_NameT = TypeVar("_NameT", NodeName, IssuerName, InviteName, RequestName)


def _canonical(name: _NameT, uri: str) -> _NameT:
    if name.uri() != uri:
        raise CertificateRefused(f"this name is not spelled as it must be: {uri[:80]!r}")
    return name
