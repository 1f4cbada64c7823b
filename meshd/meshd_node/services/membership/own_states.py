"""What this node says of itself: signed, and in versions that rise."""

from meshd_node.core.membership.events import VerifiedState
from meshd_node.core.membership.own_versions import OwnVersions
from meshd_node.seams import Signer
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import LocalProtocolError
from meshd_protocol.limits import STATE_BYTES_MAX
from meshd_protocol.messages.membership import SignedState
from meshd_protocol.records import Core, Offer, Slot, State, Version, encode_record
from meshd_protocol.signing import Domain


class OwnStates:
    """The node's slots as it said them last."""

    def __init__(self, certified: Certified, boot_epoch: int, signer: Signer) -> None:
        self.certified = certified
        self._signer = signer
        self._versions = OwnVersions(boot_epoch)
        self._said: dict[Slot, Core | Offer] = {}

    def sign(self, content: Core | Offer) -> VerifiedState:
        """Make the next version; raise `LocalProtocolError` for one too large to travel."""
        slot = Slot.CORE if isinstance(content, Core) else Slot.OFFER
        version = self._versions.following()
        state = State(self.certified.mesh, self.certified.node, slot, version, encode_record(content))
        body = encode_record(state)
        if len(body) > STATE_BYTES_MAX:
            raise LocalProtocolError(f"this node's {slot.name.lower()} has {len(body)} bytes of {STATE_BYTES_MAX}")
        self._versions.pass_over(version)
        self._said[slot] = content
        signed = self._signer.sign(Domain.STATE, body)
        return VerifiedState(SignedState(body, signed.signature), state, content, self.certified)

    def said(self, slot: Slot) -> Core | Offer | None:
        """What was said last of a slot."""
        return self._said.get(slot)

    def pass_over(self, version: Version) -> None:
        """Make the next version newer than this one of the same epoch."""
        self._versions.pass_over(version)

    def outbid(self, newest: Version) -> bool:
        """Whether `newest`, a state of our own, is from before our boot epoch was lost; what is said next is newer."""
        return self._versions.outbid(newest)
