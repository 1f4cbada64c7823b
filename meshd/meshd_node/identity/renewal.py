"""When a node asks for its next certificate, and which one it takes."""

from collections.abc import Sequence
from typing import Final

from meshd_node.identity.errors import CertificateUnusable
from meshd_node.identity.folder import Identity
from meshd_protocol.certificates import Certified, verify_node_chain
from meshd_protocol.errors import CertificateOutOfDate, CertificateRefused

# A third of a life of 90 days: issuers may be away for 60 days before a node is cut off.
RENEW_AT: Final = 1 / 3


def renew_due_at(certified: Certified) -> float:
    """When a third of the certificate's life is over, in seconds since 1970."""
    return certified.not_before + (certified.not_after - certified.not_before) * RENEW_AT


def certified_now(identity: Identity, wall: float) -> Certified:
    """What this node's own certificate proves, as every peer will see it; raise `CertificateUnusable`."""
    try:
        return verify_node_chain(identity.credentials.root_key, identity.credentials.chain, wall)
    except CertificateOutOfDate as error:
        raise CertificateUnusable(str(error), "set the clock if it is wrong, else join with a new token") from error
    except CertificateRefused as error:
        raise CertificateUnusable(f"this node's certificate proves nothing: {error}", "restore chain.pem") from error


def renewed(old: Certified, root_key: bytes, chain: Sequence[bytes], wall: float) -> Certified:
    """Verify a new chain; raise `CertificateRefused` unless it says of this node what the old one says, for longer."""
    new = verify_node_chain(root_key, chain, wall)
    if (new.node, new.key, new.operator, new.roles) != (old.node, old.key, old.operator, old.roles):
        raise CertificateRefused("the new certificate is not this node's with the same operator and roles")
    if new.not_after <= old.not_after:
        raise CertificateRefused("the new certificate does not last longer than the old one: has its issuer's ended?")
    return new
