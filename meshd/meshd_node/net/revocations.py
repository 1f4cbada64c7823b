"""What the transport asks, and tells, about certificates that were revoked. Spec: 09-admission.md, section 6."""

from typing import Protocol

from meshd_protocol.certificates import Certified
from meshd_protocol.messages.membership import SignedRevocation


class Revocations(Protocol):
    """Asked once for each connection, when its peer has proved who it is. Both calls return at once."""

    def against(self, peer: Certified) -> SignedRevocation | None:
        """What ends this certificate, if anything does."""
        ...

    def shown(self, revocation: SignedRevocation) -> None:
        """A peer refuses this node because of this. Nothing of it is proved: any peer can say it."""
        ...


class NoRevocations:
    """Nobody is revoked, and nobody is believed who says so: for nodes that only join."""

    def against(self, peer: Certified) -> None:
        """Nothing."""

    def shown(self, revocation: SignedRevocation) -> None:
        """Nobody cares."""
