"""What can happen to a node's view of its mesh."""

from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import force_setattr

from meshd_node.core.membership.hashes import record_hash
from meshd_protocol.certificates import Certified
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import (
    BucketDigests,
    Load,
    Probe,
    ProbeAck,
    ProbeReport,
    ProbeRequest,
    SignedClaim,
    SignedRevocation,
    SignedState,
    StateWants,
    Summary,
)
from meshd_protocol.records import Claim, Core, Offer, Revocation, State


class VerifiedState(Struct, frozen=True, gc=False):
    """A state whose signature, certificates and mesh the shell has checked. `certified` is what a `core` proves.

    `hash` is what it adds to the hash over all that a node holds: made once, for it comes and goes.
    """

    signed: SignedState
    state: State
    content: Core | Offer
    certified: Certified
    hash: int = 0

    def __post_init__(self) -> None:
        """Complete it."""
        force_setattr(self, "hash", record_hash(self.signed.body))


class VerifiedClaim(Struct, frozen=True, gc=False):
    """A claim that its accuser signed."""

    signed: SignedClaim
    claim: Claim


class VerifiedRevocation(Struct, frozen=True, gc=False):
    """A revocation whose issuer may revoke that operator's nodes."""

    signed: SignedRevocation
    revocation: Revocation


class PeerUp(Struct, frozen=True, gc=False):
    """A control session with a node has begun; its certificate was checked."""

    node: NodeId


class PeerDown(Struct, frozen=True, gc=False):
    """The session with a node ended. `refused`: its address answered that nobody listens there."""

    node: NodeId
    refused: bool


class DialFailed(Struct, frozen=True, gc=False):
    """A dial that the machine asked for did not end in a session."""

    node: NodeId
    refused: bool


Unsigned: TypeAlias = Probe | ProbeAck | ProbeRequest | ProbeReport | StateWants | Summary | BucketDigests


class MessageArrived(Struct, frozen=True, gc=False):
    """A peer's message in which nothing is signed."""

    sender: NodeId
    message: Unsigned


class NewsArrived(Struct, frozen=True, gc=False):
    """What of a peer's `Rumours` or `States` passed every check and is newer than what was held, and the digests.

    `answer`: it came as `States`, which we asked for or lacked, and is no rumour of the sender's.
    """

    sender: NodeId
    revocations: list[VerifiedRevocation]
    claims: list[VerifiedClaim]
    states: list[VerifiedState]
    digests: bytes
    answer: bool


class Published(Struct, frozen=True, gc=False):
    """This node has a new version of one of its own slots (already signed)."""

    state: VerifiedState


class ClaimMade(Struct, frozen=True, gc=False):
    """The claim that the machine asked for, signed by this node."""

    claim: VerifiedClaim


class Revoked(Struct, frozen=True, gc=False):
    """Somebody at this node revoked another one, or an earlier start of this node knew of it (already verified)."""

    revocations: list[VerifiedRevocation]


class LoadChanged(Struct, frozen=True, gc=False):
    """How busy this node is now."""

    load: Load


class Population(Struct, frozen=True, gc=False):
    """All members of a mesh: who they are, sorted as well, their states by shelf, and the hashes (`populate`)."""

    nodes: frozenset[NodeId]
    living: list[NodeId]
    shelves: list[list[tuple[NodeId, VerifiedState, VerifiedState]]]
    hashes: list[int]
    root: int


class Inherited(Struct, frozen=True, gc=False):
    """This node, which knows only itself, has belonged for long to a mesh of these living members, itself included.

    It answers as if a peer had told all of it, but without a word on each member.
    """

    population: Population


class Tick(Struct, frozen=True, gc=False):
    """The time that the last `Wake` named has come."""


Event: TypeAlias = (
    PeerUp
    | PeerDown
    | DialFailed
    | MessageArrived
    | NewsArrived
    | Published
    | ClaimMade
    | Revoked
    | LoadChanged
    | Inherited
    | Tick
)
