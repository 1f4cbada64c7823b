"""What a node answers to those who want a certificate: it signs, refuses, or says to whom the request must go."""

from dataclasses import dataclass

from meshd_node.identity.issuer import Issuer, refusal
from meshd_protocol.certificates import Certified, Invited
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.peer import SignGrant, SignRefusal, SignRefusalCode, SignRequest


@dataclass(frozen=True, slots=True)
class Relay:
    """Send `request` to the node `issuer`, and its answer back; if that node can not be reached, say so."""

    issuer: NodeId
    request: SignRequest

    def unreachable(self) -> SignRefusal:
        """The answer if the issuer's node can not be asked: the joiner tries its next seed."""
        return refusal(SignRefusalCode.ISSUER_UNREACHABLE, "the issuer's node is not reachable from here: is it up?")


class Admission:
    """The answers of one node, an issuer or not. Synchronous: at most one small write to the disk."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    def answer(self, invited: Invited, request: SignRequest, wall: float) -> SignGrant | SignRefusal | Relay:
        """To the holder of an invite, whose chain the link has verified."""
        if self._issuer.made(invited):
            return self._issuer.admit(invited, request.request, wall)
        # What the joiner wrote into `invite` does not matter: the link proved which one it holds.
        return Relay(invited.issuer_node, SignRequest(request.request, invited.chain[0]))

    def answer_node(self, peer: Certified, request: SignRequest, wall: float) -> SignGrant | SignRefusal:
        """To a node: it relays a joiner's request, or renews its own certificate."""
        if not request.invite:
            return self._issuer.renew(peer, request.request, wall)
        return self._issuer.admit_relayed(request.invite, request.request, wall)
