"""What is signed of memberships, checked once for a whole world: equal bytes are equally true everywhere."""

from typing import Final, TypeVar

from meshd_node.core.membership.events import VerifiedClaim, VerifiedRevocation, VerifiedState
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import BadSignature, CertificateRefused, MalformedMessage
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import SignedClaim, SignedRevocation, SignedState
from meshd_protocol.records import (
    Claim,
    Core,
    Offer,
    Revocation,
    Slot,
    State,
    Verdict,
    Version,
    decode_record,
    encode_record,
)
from meshd_protocol.signing import Domain, Signed
from meshd_sim.keys import Keyring

# Older checks are forgotten, and done again if such bytes should still travel.
_REMEMBERED_MAX: Final = 200_000

_T = TypeVar("_T")


class CheckedState:
    """A state as it was read, and what a check of it said: `verified` is None while nobody checked."""

    __slots__ = ("signed", "state", "verified")

    def __init__(self, signed: SignedState, state: State) -> None:
        self.signed = signed
        self.state = state
        self.verified: VerifiedState | None = None


class Notary:
    """Reads and verifies for all nodes, and makes what they sign."""

    def __init__(self, keyring: Keyring, issuer: NodeId) -> None:
        self._keyring = keyring
        # Who signs revocations.
        self._issuer = issuer
        self._members: set[NodeId] = set()
        self._certified: dict[NodeId, Certified] = {}
        self._states: dict[bytes, CheckedState] = {}
        self._claims: dict[bytes, VerifiedClaim] = {}
        self._revocations: dict[bytes, VerifiedRevocation] = {}

    def admit(self, node: NodeId) -> None:
        """Give a node a certificate of this mesh."""
        self._members.add(node)

    def admitted(self, node: NodeId) -> bool:
        """Whether a node's certificate is of this mesh."""
        return node in self._members

    def certified(self, node: NodeId, operator: str = "lab") -> Certified:
        """What a node's certificate proves."""
        certified = self._certified.get(node)
        if certified is None:
            certified = self._certified[node] = self._keyring.certified(node, operator)
        return certified

    # --- states ---------------------------------------------------------------------------------------------------

    def sign_state(self, node: NodeId, version: Version, content: Core | Offer) -> VerifiedState:
        """A node's next word on one of its slots."""
        state = self.state_of(node, version, content)
        body = encode_record(state)
        signed = SignedState(body, self._keyring.sign(node, Domain.STATE, body).signature)
        checked = CheckedState(signed, state)
        checked.verified = VerifiedState(signed, state, content, self.certified(node))
        _remember(self._states, signed.signature, checked)
        return checked.verified

    def state_of(self, node: NodeId, version: Version, content: Core | Offer) -> State:
        """What would have to be signed."""
        slot = Slot.CORE if isinstance(content, Core) else Slot.OFFER
        return State(self._keyring.mesh, node, slot, version, encode_record(content))

    def read_state(self, signed: SignedState) -> CheckedState:
        """Read a state; nothing in it is proved before `verify_state`."""
        known = self._states.get(signed.signature)
        if known is not None and known.signed.body == signed.body:
            return known
        state = decode_record(State, signed.body)
        if state.mesh != self._keyring.mesh:
            raise MalformedMessage("a state of another mesh")
        return CheckedState(signed, state)

    def verify_state(self, checked: CheckedState) -> VerifiedState:
        """Return what holds of it; raise `RemoteProtocolError` for what no honest node passes on."""
        if checked.verified is None:
            state, node = checked.state, NodeId(checked.state.publisher)
            content = _content(state)
            if isinstance(content, Core) and content.certificates[0] != self._keyring.certificate(node):
                raise CertificateRefused("a state with the certificate of another node")
            self._keyring.verify(node, Domain.STATE, Signed(checked.signed.body, checked.signed.signature))
            checked.verified = VerifiedState(checked.signed, state, content, self.certified(node))
            _remember(self._states, checked.signed.signature, checked)
        return checked.verified

    # --- claims ---------------------------------------------------------------------------------------------------

    def sign_claim(self, node: NodeId, claim: Claim) -> VerifiedClaim:
        """A node's accusation."""
        body = encode_record(claim)
        signed = SignedClaim(body, self._keyring.sign(node, Domain.CLAIM, body).signature)
        verified = VerifiedClaim(signed, claim)
        _remember(self._claims, signed.signature, verified)
        return verified

    def claim_of(self, node: NodeId, accused: NodeId, version: Version, verdict: Verdict) -> VerifiedClaim:
        """An accusation in the words of this mesh."""
        return self.sign_claim(node, Claim(self._keyring.mesh, node, accused, version, verdict))

    def read_claim(self, signed: SignedClaim) -> Claim:
        """Read a claim; nothing in it is proved."""
        known = self._claims.get(signed.signature)
        if known is not None and known.signed.body == signed.body:
            return known.claim
        claim = decode_record(Claim, signed.body)
        if claim.mesh != self._keyring.mesh:
            raise MalformedMessage("a claim of another mesh")
        return claim

    def verify_claim(self, signed: SignedClaim, claim: Claim) -> VerifiedClaim:
        """Return it if its accuser signed it; else raise `BadSignature`."""
        known = self._claims.get(signed.signature)
        if known is not None and known.signed.body == signed.body:
            return known
        self._keyring.verify(NodeId(claim.accuser), Domain.CLAIM, Signed(signed.body, signed.signature))
        verified = VerifiedClaim(signed, claim)
        _remember(self._claims, signed.signature, verified)
        return verified

    # --- revocations ----------------------------------------------------------------------------------------------

    def revoke(self, node: NodeId, until_ms: int) -> VerifiedRevocation:
        """The issuer ends a node's certificate."""
        revocation = Revocation(self._keyring.mesh, node, self.certified(node).operator, until_ms, "")
        body = encode_record(revocation)
        signature = self._keyring.sign(self._issuer, Domain.REVOCATION, body).signature
        signed = SignedRevocation(body, signature, self._keyring.certificate(self._issuer))
        verified = self._revocations[signature] = VerifiedRevocation(signed, revocation)
        return verified

    def verify_revocation(self, signed: SignedRevocation) -> VerifiedRevocation:
        """Return it if the issuer signed it; else raise `BadSignature`."""
        known = self._revocations.get(signed.signature)
        if known is None or known.signed != signed:
            raise BadSignature("the signature does not cover this revocation")
        return known


def _content(state: State) -> Core | Offer:
    return decode_record(Core, state.content) if state.slot is Slot.CORE else decode_record(Offer, state.content)


def _remember(memory: dict[bytes, _T], signature: bytes, checked: _T) -> None:
    memory[signature] = checked
    if len(memory) > _REMEMBERED_MAX:
        del memory[next(iter(memory))]
