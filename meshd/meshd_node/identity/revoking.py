"""Making revocations: with this node's issuer where that one may, else with the root key if it lies in the folder."""

from meshd_node.identity.errors import BadRequest, GrantRefused
from meshd_node.identity.folder import NodeFolder, load_key
from meshd_node.identity.ledger import Ledger
from meshd_protocol.certificates import read_node_name, verify_issuer
from meshd_protocol.errors import LocalProtocolError, ProtocolError
from meshd_protocol.ids import NodeId, mesh_id
from meshd_protocol.issuing import Signer
from meshd_protocol.limits import NAME_CHARS_MAX, REVOCATION_S
from meshd_protocol.messages.membership import SignedRevocation
from meshd_protocol.records import Revocation
from meshd_protocol.revocations import make_revocation, verify_revocation


def revoke_node(
    folder: NodeFolder, root_key: bytes, node: NodeId, operator: str, reason: str, wall: float
) -> tuple[Revocation, SignedRevocation]:
    """Revoke a node of this operator. Raise `GrantRefused` if nothing in this folder may, `BadRequest` for the reason.

    The issuer's certificate and the root key are read for each request: `meshd invite` may have widened the first, and
    the second may have been put elsewhere.
    """
    record = Revocation(mesh_id(root_key), node, operator, int((wall + REVOCATION_S) * 1_000), _plain(reason))
    signer = _signer(folder, root_key, operator, wall)
    try:
        signed = make_revocation(signer, record)
    except LocalProtocolError as error:
        raise BadRequest(str(error)) from error
    try:
        # Nothing leaves that the mesh would refuse.
        return verify_revocation(root_key, signed, wall), signed
    except ProtocolError as error:
        raise GrantRefused(f"this node can not make that revocation: {error}") from error


def operator_of(folder: NodeFolder, node: NodeId) -> str | None:
    """Whom a node belonged to when this node's issuer let it in; it may be gone for long."""
    names = map(read_node_name, Ledger(folder.ledger_file).everybody())
    return next((name.operator for name in names if name.node == node), None)


def _signer(folder: NodeFolder, root_key: bytes, operator: str, wall: float) -> Signer:
    issuer = folder.issuer()
    if issuer is not None and _may_revoke(root_key, issuer[1], operator, wall):
        return Signer.issuer(*issuer)
    root = load_key(folder.root_key_file)
    if root is not None and root.public_key().public_bytes_raw() == root_key:
        return Signer.root(root)
    if issuer is None:
        raise GrantRefused("this node is no issuer", "run `meshd revoke` on the node that founded the mesh")
    raise GrantRefused(
        f"this issuer may not revoke nodes of operator {operator!r}",
        "run `meshd revoke` on an issuer of that operator, or put the root key back for a moment",
    )


def _may_revoke(root_key: bytes, certificate: bytes, operator: str, wall: float) -> bool:
    try:
        return verify_issuer(root_key, certificate, wall).may_revoke(operator)
    except ProtocolError:
        return False  # it has ended: the root key may still be here


def _plain(reason: str) -> str:
    """The reason, which every node of the mesh prints."""
    if not reason.isprintable() or len(reason) > NAME_CHARS_MAX:
        raise BadRequest(f"a reason is one line of at most {NAME_CHARS_MAX} printable characters")
    return reason
