"""Cheap keys: a signature is a keyed hash, made and checked by the one keyring of a world. Forged ones fail.

Everything that is signed keeps its size and its bytes, so that what travels is what would travel.
"""

from typing import Final

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_protocol.certificates import Certified, Role
from meshd_protocol.errors import BadSignature
from meshd_protocol.ids import KEY_BYTES, MeshId, NodeId
from meshd_protocol.signing import SIGNATURE_BYTES, Domain, Signed

# As large as the certificates that an issuer of ours makes.
_CERTIFICATE_BYTES: Final = 450
# Nobody verifies with it: it stands where a real node's key would.
_UNUSED_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(KEY_BYTES)).public_key()
_NEVER: Final = 1e10


class Keyring:
    """The keys of all nodes of a world, by who they are."""

    def __init__(self, seed: int) -> None:
        self._root = blake3(b"meshd-sim/%d" % seed).digest()
        self.mesh = MeshId(self._root[:20])
        self._issuer = self._made_up(b"issuer", _CERTIFICATE_BYTES)
        self._secrets: dict[NodeId, bytes] = {}

    def certified(self, node: NodeId, operator: str) -> Certified:
        """What the chain of a node proves."""
        roles = frozenset({Role.WORKER, Role.SUBMITTER})
        chain = (self.certificate(node), self._issuer)
        return Certified(self.mesh, node, operator, roles, _UNUSED_KEY, 0.0, _NEVER, chain)

    def certificate(self, node: NodeId) -> bytes:
        """The certificate of a node: the only bytes that prove it."""
        return self._made_up(b"certificate" + node, _CERTIFICATE_BYTES)

    def sign(self, node: NodeId, domain: Domain, body: bytes) -> Signed:
        """Sign in a node's name."""
        return Signed(body, self._signature(node, domain, body))

    def verify(self, node: NodeId, domain: Domain, signed: Signed) -> bytes:
        """The body, if that node signed it in `domain`; else raise `BadSignature`."""
        if signed.signature != self._signature(node, domain, signed.body):
            raise BadSignature(f"the signature does not cover this {domain.name.lower()}")
        return signed.body

    def _signature(self, node: NodeId, domain: Domain, body: bytes) -> bytes:
        secret = self._secrets.get(node)
        if secret is None:
            secret = self._secrets[node] = self._made_up(node, KEY_BYTES)
        return blake3(domain.value + body, key=secret).digest(length=SIGNATURE_BYTES)

    def _made_up(self, what: bytes, length: int) -> bytes:
        return blake3(self._root + what).digest(length=length)
