"""Certificates: what their names say and how a chain is verified and made. Spec: 09-admission.md."""

from dataclasses import dataclass
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from meshd_protocol.ids import MeshId, NodeId


class Role(StrEnum):
    """What a certificate allows. A role that is not in the certificate does not exist."""

    WORKER = "worker"
    SUBMITTER = "submitter"
    ISSUER = "issuer"
    COORDINATOR = "coordinator"
    TRUSTED = "trusted"


@dataclass(frozen=True, slots=True)
class Certified:
    """What a node's verified chain proves. Times are seconds since 1970, UTC; `chain` is its DERs, its own first."""

    mesh: MeshId
    node: NodeId
    operator: str
    roles: frozenset[Role]
    key: Ed25519PublicKey
    not_before: float
    not_after: float
    chain: tuple[bytes, ...]
