"""When a node asks for its next certificate."""

from typing import Final

from meshd_protocol.certificates import Certified

# A third of a life of 90 days: issuers may be away for 60 days before a node is cut off.
RENEW_AT: Final = 1 / 3


def renew_due(certified: Certified, wall: float) -> bool:
    """Whether a third of the certificate's life is over."""
    life = certified.not_after - certified.not_before
    return wall >= certified.not_before + life * RENEW_AT
