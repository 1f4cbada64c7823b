"""What a signed claim must pass before membership sees it, the cheap checks first. Spec: 10-membership.md."""

from collections.abc import Callable
from dataclasses import dataclass

from meshd_node.core.membership.events import VerifiedClaim
from meshd_node.seams import Signer
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import MalformedMessage
from meshd_protocol.ids import MeshId
from meshd_protocol.limits import CLOCK_SKEW_S
from meshd_protocol.messages.membership import SignedClaim
from meshd_protocol.records import Claim, decode_record, encode_record
from meshd_protocol.signing import Domain, Signed, verify


@dataclass(frozen=True, slots=True)
class ClaimChecks:
    """Checks the claims of one mesh. Raises `RemoteProtocolError` only for what no honest node passes on."""

    mesh: MeshId
    wall: Callable[[], float]

    def read(self, signed: SignedClaim) -> Claim:
        """Read a claim; nothing in it is proved yet."""
        claim = decode_record(Claim, signed.body)
        if claim.mesh != self.mesh:
            raise MalformedMessage("a claim of another mesh")
        return claim

    def may_speak(self, accuser: Certified) -> bool:
        """Whether a node's certificate still lets it accuse anybody."""
        return accuser.not_after + CLOCK_SKEW_S >= self.wall()

    def check(self, signed: SignedClaim, claim: Claim, accuser: Certified) -> VerifiedClaim:
        """Verify what a known node said. One signature check."""
        verify(accuser.key, Domain.CLAIM, Signed(signed.body, signed.signature))
        return VerifiedClaim(signed, claim)


def sign_claim(signer: Signer, claim: Claim) -> VerifiedClaim:
    """Say it in this node's name."""
    body = encode_record(claim)
    return VerifiedClaim(SignedClaim(body, signer.sign(Domain.CLAIM, body).signature), claim)
