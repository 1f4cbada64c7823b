"""Making invites: a token for each, and with the root key at hand, what the issuer may grant."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.identity.errors import BadRequest, FolderDamaged, GrantRefused
from meshd_node.identity.folder import NodeFolder, Standing, load_key
from meshd_node.identity.founding import require_label
from meshd_protocol.certificates import verify_issuer
from meshd_protocol.errors import CertificateRefused, LocalProtocolError
from meshd_protocol.ids import KEY_BYTES
from meshd_protocol.issuing import SERIAL_BYTES, Signer, issue_invite, issue_issuer, key_id, serial_from
from meshd_protocol.limits import INVITE_TTL_S, INVITE_TTL_S_MAX, INVITE_USES_MAX, SEEDS_MAX
from meshd_protocol.names import InviteName, IssuerName, Role
from meshd_protocol.tokens import Token, encode_token

DEFAULT_ROLES: Final = frozenset({Role.WORKER, Role.SUBMITTER})
_TTL_S_MIN: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Who is invited, and for how long. `operator` None: the inviting node's own."""

    seeds: tuple[str, ...]
    roles: frozenset[Role] = DEFAULT_ROLES
    operator: str | None = None
    ttl_s: float = INVITE_TTL_S
    uses: int = 1

    def __post_init__(self) -> None:
        if Role.ISSUER in self.roles:
            raise BadRequest("an invite makes no issuer", "leave the role issuer out: the root key alone makes one")
        if not self.roles:
            raise BadRequest("an invite needs a role", "name one of: " + ", ".join(sorted(DEFAULT_ROLES)))
        if not _TTL_S_MIN <= self.ttl_s <= INVITE_TTL_S_MAX:
            raise BadRequest("an invite lives for 1 minute to 30 days", "choose another --ttl")
        if not 1 <= self.uses <= INVITE_USES_MAX:
            raise BadRequest(f"an invite has 1 to {INVITE_USES_MAX} uses", "choose other --uses")
        if not 1 <= len(self.seeds) <= SEEDS_MAX:
            raise BadRequest(f"an invite names 1 to {SEEDS_MAX} addresses to join through, not {len(self.seeds)}")
        if self.operator is not None:
            require_label(self.operator)


def make_invite(
    folder: NodeFolder,
    invitation: Invitation,
    wall: float,
    entropy: Callable[[int], bytes],
    root: Ed25519PrivateKey | None = None,
) -> str:
    """Make an invite and return its token.

    What this issuer may not grant yet, the root key lets it grant from now on: `root`, or the folder's own.
    """
    standing = folder.standing()
    operator = invitation.operator or standing.name.operator
    key, certificate = _issuer(folder)
    grant = _grant(standing, certificate, wall)
    if not grant.may_grant(operator, invitation.roles):
        root = _root(folder, standing, root)
        grant = replace(grant, operators=grant.operators | {operator}, roles=grant.roles | invitation.roles)
        certificate = _widened(root, key, grant, serial_from(entropy(SERIAL_BYTES)), wall)
        folder.install_issuer(certificate)
    invite = Ed25519PrivateKey.from_private_bytes(entropy(KEY_BYTES))
    invite_id = key_id(invite.public_key().public_bytes_raw())
    name = InviteName(standing.mesh, invite_id, operator, invitation.roles, invitation.uses)
    serial = serial_from(entropy(SERIAL_BYTES))
    try:
        leaf = issue_invite(Signer.issuer(key, certificate), invite.public_key(), name, serial, wall, invitation.ttl_s)
        secret = invite.private_bytes_raw()
        root_key = standing.root_key
        return encode_token(Token(standing.facts.mesh_name, root_key, invitation.seeds, leaf, certificate, secret))
    except LocalProtocolError as error:
        raise BadRequest(str(error)) from error


def _issuer(folder: NodeFolder) -> tuple[Ed25519PrivateKey, bytes]:
    issuer = folder.issuer()
    if issuer is None:
        raise GrantRefused("this node is no issuer", "run `meshd invite` on the node that founded the mesh")
    return issuer


def _grant(standing: Standing, certificate: bytes, wall: float) -> IssuerName:
    try:
        return verify_issuer(standing.root_key, certificate, wall)
    except CertificateRefused as error:
        raise FolderDamaged(f"the issuer's certificate can not be used: {error}") from error


def _root(folder: NodeFolder, standing: Standing, given: Ed25519PrivateKey | None) -> Ed25519PrivateKey:
    root = given or load_key(folder.root_key_file)
    if root is None:
        raise GrantRefused(
            "only the root key lets this issuer grant a new operator or role",
            "add --root-key FILE, or leave --operator and --role as they are",
        )
    if root.public_key().public_bytes_raw() != standing.root_key:
        raise GrantRefused("this root key is of another mesh", "give the file that `meshd init` wrote")
    return root


def _widened(root: Ed25519PrivateKey, key: Ed25519PrivateKey, grant: IssuerName, serial: int, wall: float) -> bytes:
    try:
        return issue_issuer(root, key.public_key(), grant, serial, wall)
    except LocalProtocolError as error:
        raise GrantRefused(f"the issuer's certificate is full: {error}", "use an operator that it lists") from error
