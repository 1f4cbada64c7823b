"""A node's folder (`MESHD_DIR`): which files it has, and what of them makes a node.

`mesh.json` is written last and never replaced: a folder is a node if and only if it is there. What a crash left
before that is used again, so that a join whose answer was lost asks with the same key and costs no second use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta

from meshd_node.identity.errors import AlreadyANode, FolderDamaged, FolderMissing
from meshd_node.identity.files import create_private, make_private_folder, read_private, replace_private
from meshd_node.identity.pem import chain_from_pem, chain_to_pem, key_from_pem, key_to_pem
from meshd_node.net.tls import Credentials
from meshd_protocol.certificates import read_node_name
from meshd_protocol.errors import CertificateRefused
from meshd_protocol.ids import KEY_BYTES, MeshId, mesh_id, node_id
from meshd_protocol.limits import OPERATOR_CHARS_MAX, SEEDS_MAX
from meshd_protocol.names import NodeName
from meshd_protocol.records import U32_MAX, Address

_NODE_KEY: Final = "node.key"
_HEX_KEY: Final = f"^[0-9a-f]{{{2 * KEY_BYTES}}}$"
_Label = Annotated[str, Meta(min_length=1, max_length=OPERATOR_CHARS_MAX)]


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `mesh.json` holds; nothing of it is secret."""

    mesh_name: _Label
    root_key: Annotated[str, Meta(pattern=_HEX_KEY)]
    node_name: _Label
    seeds: Annotated[list[Address], Meta(max_length=SEEDS_MAX)] = []


@dataclass(frozen=True, slots=True)
class Standing:
    """Of which mesh a node is, and as whom: what its folder tells to whoever does not have its key."""

    facts: Facts
    name: NodeName
    root_key: bytes

    @property
    def mesh(self) -> MeshId:
        """The mesh that the node belongs to."""
        return mesh_id(self.root_key)


@dataclass(frozen=True, slots=True)
class Identity:
    """A node of a mesh, as its folder says. The chain is not verified: it may have ended."""

    facts: Facts
    name: NodeName
    credentials: Credentials

    @property
    def mesh(self) -> MeshId:
        """The mesh that the node belongs to."""
        return mesh_id(self.credentials.root_key)


class NodeFolder:
    """One node's files."""

    def __init__(self, path: Path, credentials: Path | None = None) -> None:
        """In `credentials` lies the node's key if systemd keeps it (`meshd install`), for the daemon alone."""
        self.path = path
        self._credentials = credentials

    @property
    def root_key_file(self) -> Path:
        """Where the mesh's root key lies unless it was put elsewhere."""
        return self.path / "root.key"

    @property
    def ledger_file(self) -> Path:
        """Where the uses of invites are counted."""
        return self.path / "invites.sqlite"

    @property
    def acquaintances_file(self) -> Path:
        """Where addresses of other members are kept."""
        return self.path / "acquaintances.json"

    @property
    def revocations_file(self) -> Path:
        """Where revocations are kept."""
        return self.path / "revocations.sqlite"

    def is_node(self) -> bool:
        """Whether a mesh was founded or joined here."""
        return read_private(self._facts_file) is not None

    def prepare(self) -> None:
        """Make the folder for a new node; raise `AlreadyANode` if it holds one."""
        make_private_folder(self.path)
        if self.is_node():
            raise AlreadyANode(
                f"{self.path} is a node already", "`meshd up` starts it; MESHD_DIR chooses another folder"
            )

    def identity(self) -> Identity:
        """Who the node is, and its key; raise `FolderMissing` where none is, `FolderDamaged` where files do not fit."""
        standing = self.standing()
        key, chain = self._node_key(), self._require_chain("chain.pem")
        if standing.name.node != node_id(key.public_key().public_bytes_raw(), standing.name.nonce):
            raise FolderDamaged(f"node.key and chain.pem in {self.path} do not belong together", "restore both")
        return Identity(standing.facts, standing.name, Credentials(standing.root_key, chain, key))

    def standing(self) -> Standing:
        """Who the node is; raise as `identity` does."""
        data = read_private(self._facts_file)
        if data is None:
            raise FolderMissing(
                f"there is no node in {self.path}", "`meshd init` founds a mesh, `meshd join TOKEN` joins"
            )
        facts = self._read_facts(data)
        return Standing(facts, self._node_name(self._require_chain("chain.pem")), bytes.fromhex(facts.root_key))

    def become_node(self, facts: Facts, chain: tuple[bytes, ...]) -> None:
        """Make this folder a node; of two who try, one gets `AlreadyANode`."""
        self.install_certificate(chain)
        create_private(self._facts_file, msgspec.json.format(msgspec.json.encode(facts)) + b"\n")

    def install_certificate(self, chain: tuple[bytes, ...]) -> None:
        """Take a new chain, verified by the caller, in place of the old."""
        replace_private(self.path / "chain.pem", chain_to_pem(chain))

    def node_key(self, entropy: Callable[[int], bytes]) -> Ed25519PrivateKey:
        """The node's key; made now unless an attempt before left one."""
        return load_or_make_key(self.path / _NODE_KEY, entropy)

    def issuer_key(self, entropy: Callable[[int], bytes]) -> Ed25519PrivateKey:
        """The issuer's key, made now unless it is there."""
        return load_or_make_key(self.path / "issuer.key", entropy)

    def install_issuer(self, certificate: bytes) -> None:
        """Take a new issuer's certificate, in place of the old."""
        replace_private(self.path / "issuer.pem", chain_to_pem((certificate,)))

    def issuer(self) -> tuple[Ed25519PrivateKey, bytes] | None:
        """The issuer's key and certificate, if this node is one. Read anew: `meshd invite` may have widened it."""
        if read_private(self.path / "issuer.pem") is None:
            return None
        return self._require_key("issuer.key"), self._require_chain("issuer.pem")[0]

    def next_epoch(self) -> int:
        """Count this start of the node; on the disk before it is told to anybody, so that a restart always wins."""
        path = self.path / "epoch"
        text = read_private(path) or b"0"
        if not text.strip().isdigit() or not 0 <= int(text) < U32_MAX:
            raise FolderDamaged(f"{path} holds no number", "write a number above the last epoch into it")
        epoch = int(text) + 1
        replace_private(path, b"%d\n" % epoch)
        return epoch

    @property
    def _facts_file(self) -> Path:
        return self.path / "mesh.json"

    def _read_facts(self, data: bytes) -> Facts:
        try:
            return msgspec.json.decode(data, type=Facts)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FolderDamaged(f"{self._facts_file}: {error}", "restore it from a backup") from error

    def _require_key(self, name: str) -> Ed25519PrivateKey:
        return key_from_pem(self._require(name), self.path / name)

    def _require_chain(self, name: str) -> tuple[bytes, ...]:
        return chain_from_pem(self._require(name), self.path / name)

    def _require(self, name: str) -> bytes:
        data = read_private(self.path / name)
        if data is None:
            raise FolderDamaged(
                f"{self.path / name} is gone", "restore it from a backup, or join again in a new folder"
            )
        return data

    def _node_key(self) -> Ed25519PrivateKey:
        """The key, from systemd or from the folder. What systemd hands over has a mode of its choice, in its folder."""
        sealed = None if self._credentials is None else self._credentials / _NODE_KEY
        if sealed is None or not sealed.exists():
            return self._require_key(_NODE_KEY)
        return key_from_pem(sealed.read_bytes(), sealed)

    def _node_name(self, chain: tuple[bytes, ...]) -> NodeName:
        try:
            return read_node_name(chain[0])
        except CertificateRefused as error:
            raise FolderDamaged(f"{self.path / 'chain.pem'}: {error}", "restore it from a backup") from error


def load_key(path: Path) -> Ed25519PrivateKey | None:
    """Read a private key's file; None if it is not there."""
    data = read_private(path)
    return None if data is None else key_from_pem(data, path)


def load_or_make_key(path: Path, entropy: Callable[[int], bytes]) -> Ed25519PrivateKey:
    """Read a private key's file, or make it. A key that is there is never overwritten."""
    key = load_key(path)
    if key is None:
        key = Ed25519PrivateKey.from_private_bytes(entropy(KEY_BYTES))
        create_private(path, key_to_pem(key))
    return key
