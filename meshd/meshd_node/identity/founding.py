"""Founding a mesh: its root key, the first issuer and the first node, all on one machine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd_node.identity.errors import BadRequest
from meshd_node.identity.folder import Facts, Identity, NodeFolder, load_or_make_key
from meshd_protocol.errors import LocalProtocolError
from meshd_protocol.ids import NONCE_BYTES, mesh_id, node_id
from meshd_protocol.issuing import SERIAL_BYTES, Signer, issue_issuer, issue_node, serial_from
from meshd_protocol.names import IssuerName, NodeName, Role, check_label

# The root alone makes `trusted` nodes, so the first issuer may not.
FIRST_ISSUER_ROLES: Final = frozenset({Role.WORKER, Role.SUBMITTER, Role.COORDINATOR, Role.ISSUER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Founding:
    """What the founder chooses. `root_key_file` keeps the root key off the node; one that is there is used."""

    mesh_name: str
    operator: str
    node_name: str
    root_key_file: Path | None = None

    def __post_init__(self) -> None:
        for label in (self.mesh_name, self.operator, self.node_name):
            require_label(label)


def init_mesh(folder: NodeFolder, founding: Founding, wall: float, entropy: Callable[[int], bytes]) -> Identity:
    """Found a mesh. The first node's certificate is its own issuer's, so that it renews without the root key."""
    folder.prepare()
    root = load_or_make_key(founding.root_key_file or folder.root_key_file, entropy)
    root_key = root.public_key().public_bytes_raw()
    node, issuer = folder.node_key(entropy), folder.issuer_key(entropy)
    nonce = entropy(NONCE_BYTES)
    name = NodeName(
        mesh_id(root_key),
        node_id(node.public_key().public_bytes_raw(), nonce),
        founding.operator,
        FIRST_ISSUER_ROLES,
        nonce,
    )
    grant = IssuerName(name.mesh, name.node, frozenset({founding.operator}), FIRST_ISSUER_ROLES, frozenset())
    certificate = issue_issuer(root, issuer.public_key(), grant, serial_from(entropy(SERIAL_BYTES)), wall)
    signer = Signer.issuer(issuer, certificate)
    leaf = issue_node(signer, node.public_key(), name, serial_from(entropy(SERIAL_BYTES)), wall)
    folder.install_issuer(certificate)
    facts = Facts(founding.mesh_name, root_key.hex(), founding.node_name)
    folder.become_node(facts, (leaf, *signer.chain))
    return folder.identity()


def require_label(text: str) -> str:
    """Return a name that a person gave; raise `BadRequest` if two people could read it differently."""
    try:
        return check_label(text)
    except LocalProtocolError as error:
        raise BadRequest(str(error)) from error
