"""An issuer's decisions: which signing requests it grants, and to whom it renews. Synchronous; one disk write a use."""

from collections.abc import Callable
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from meshd_node.errors import MeshdError
from meshd_node.identity.errors import GrantRefused
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.ledger import Ledger, Use
from meshd_protocol.certificates import (
    Certified,
    Invited,
    read_node_name,
    read_request,
    verify_admission_proof,
    verify_invite_chain,
    verify_node_chain,
)
from meshd_protocol.errors import CertificateOutOfDate, CertificateRefused, ProtocolError
from meshd_protocol.ids import KEY_BYTES, NONCE_BYTES, NodeId, node_id
from meshd_protocol.issuing import SERIAL_BYTES, Signer, issue_node, key_id, serial_from
from meshd_protocol.limits import CLOCK_SKEW_S, REASON_CHARS_MAX
from meshd_protocol.messages.peer import SignGrant, SignRefusal, SignRefusalCode
from meshd_protocol.names import NodeName

# Whether the certificates of this operator's node were revoked.
Revoked: TypeAlias = Callable[[NodeId, str], bool]


class Issuer:
    """Signs with the issuer's key of a folder, if it has one.

    The issuer's certificate is read for each request: `meshd invite` may have widened it meanwhile.
    """

    def __init__(
        self, folder: NodeFolder, root_key: bytes, entropy: Callable[[int], bytes], revoked: Revoked | None = None
    ) -> None:
        assert len(root_key) == KEY_BYTES, "a root key has 32 bytes"
        self._folder = folder
        self._root_key = root_key
        self._entropy = entropy
        self._revoked = revoked or _nobody_is
        self._ledger = Ledger(folder.ledger_file)
        issuer = folder.issuer()
        self._key_id = key_id(issuer[0].public_key().public_bytes_raw()) if issuer else None

    def made(self, invited: Invited) -> bool:
        """Whether this issuer's key signed an invite."""
        return invited.issuer == self._key_id

    def admit(self, invited: Invited, request: bytes, wall: float) -> SignGrant | SignRefusal:
        """Let a joiner in; its use is counted before the certificate leaves."""
        return _answered(lambda: self._admit(invited, request, wall))

    def admit_relayed(self, invite: bytes, request: bytes, wall: float) -> SignGrant | SignRefusal:
        """Let a joiner in whose request came through a seed, with the invite's certificate."""
        return _answered(lambda: self._admit(self._recognise(invite, wall), request, wall))

    def renew(self, peer: Certified, request: bytes, wall: float) -> SignGrant | SignRefusal:
        """Give a node a new certificate of the same name, if this issuer might have given it the old one."""
        return _answered(lambda: self._renew(peer, request, wall))

    def _admit(self, invited: Invited, request: bytes, wall: float) -> tuple[bytes, ...]:
        if wall > invited.not_after + CLOCK_SKEW_S:
            raise CertificateOutOfDate("this token has ended by the issuer's clock")
        requested = read_request(request, invited.mesh)
        verify_admission_proof(requested, invited)
        key = requested.key.public_bytes_raw()
        before = self._ledger.find(invited.serial, key)
        if before is not None:
            self._refuse_revoked(read_node_name(before.chain[0]))
            return before.chain
        nonce = self._entropy(NONCE_BYTES)
        name = NodeName(invited.mesh, node_id(key, nonce), invited.operator, invited.roles, nonce)
        certified = self._sign(requested.key, name, wall)
        return self._count(invited, requested.name.label, certified, wall)

    def _recognise(self, invite: bytes, wall: float) -> Invited:
        issuer = self._folder.issuer()
        if issuer is None:
            raise GrantRefused("this node is no issuer")
        try:
            return verify_invite_chain(self._root_key, (invite, issuer[1]), wall)
        except CertificateOutOfDate:
            raise
        except CertificateRefused as error:
            raise GrantRefused(f"this node did not make that invite: {error}") from error

    def _renew(self, peer: Certified, request: bytes, wall: float) -> tuple[bytes, ...]:
        requested = read_request(request, peer.mesh)
        if requested.key != peer.key or requested.name.holder != peer.node:
            raise CertificateRefused("a node renews its own certificate, with the same key")
        name = read_node_name(peer.chain[0])
        self._refuse_revoked(name)
        return self._sign(peer.key, name, wall).chain

    def _refuse_revoked(self, name: NodeName) -> None:
        if self._revoked(name.node, name.operator):
            raise _Revoked("this node was revoked: ask for a new token and join with a new key, in a new folder")

    def _count(self, invited: Invited, label: str, certified: Certified, wall: float) -> tuple[bytes, ...]:
        leaf, issuer = certified.chain
        use = Use(
            invite=invited.serial,
            key=certified.key.public_bytes_raw(),
            label=label,
            chain=(leaf, issuer),
            used_at=wall,
            ends_at=certified.not_after,
        )
        counted = self._ledger.count(use, invited.uses)
        if counted is None:
            raise _UsedUp("once" if invited.uses == 1 else f"{invited.uses} times")
        return counted.chain

    def _sign(self, key: Ed25519PublicKey, name: NodeName, wall: float) -> Certified:
        issuer = self._folder.issuer()
        if issuer is None:
            raise GrantRefused("this node is no issuer any more")
        private, certificate = issuer
        try:
            leaf = issue_node(
                Signer.issuer(private, certificate), key, name, serial_from(self._entropy(SERIAL_BYTES)), wall
            )
            # Nothing leaves that the mesh would refuse: more than this issuer may grant, or an issuer that has ended.
            return verify_node_chain(self._root_key, (leaf, certificate), wall)
        except ProtocolError as error:
            raise GrantRefused(f"the issuer can not make this certificate: {error}") from error


class _Revoked(Exception):
    """Who asks has lost its place in the mesh; the text says what helps."""


class _UsedUp(Exception):
    """An invite has no use left; the text says how many it had."""


def refusal(code: SignRefusalCode, reason: str) -> SignRefusal:
    """A refusal whose reason fits its bound."""
    return SignRefusal(code, reason[:REASON_CHARS_MAX])


def _answered(decide: Callable[[], tuple[bytes, ...]]) -> SignGrant | SignRefusal:
    try:
        return SignGrant(list(decide()))
    except CertificateOutOfDate as error:
        return refusal(SignRefusalCode.EXPIRED, str(error))
    except CertificateRefused as error:
        return refusal(SignRefusalCode.MALFORMED, str(error))
    except GrantRefused as error:
        return refusal(SignRefusalCode.NOT_GRANTABLE, str(error))
    except _Revoked as error:
        return refusal(SignRefusalCode.REVOKED, str(error))
    except _UsedUp as error:
        return refusal(SignRefusalCode.USED_UP, f"this token was used {error} already, as often as it may be")
    except MeshdError as error:
        # Its disk is full or its folder unreadable: the joiner may try again, the invite has lost nothing.
        return refusal(SignRefusalCode.ISSUER_UNREACHABLE, f"the issuer can not answer now: {error}")


def _nobody_is(node: NodeId, operator: str) -> bool:
    return False
