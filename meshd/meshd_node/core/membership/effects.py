"""What membership asks its shell to do, in order."""

from enum import Enum
from typing import Final, TypeAlias

from msgspec import Struct

from meshd_protocol.certificates import Certified
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import (
    BucketDigests,
    Load,
    Probe,
    ProbeAck,
    ProbeReport,
    ProbeRequest,
    Rumours,
    States,
    StateWants,
    Summary,
)
from meshd_protocol.records import Claim, Core, Offer, Version


class MemberState(Enum):
    """A member as this node sees it."""

    ALIVE = "alive"
    DRAINING = "draining"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    REVOKED = "revoked"


# Somebody is there; a suspect may be.
LIVING: Final = frozenset({MemberState.ALIVE, MemberState.DRAINING, MemberState.SUSPECT})


class Member(Struct, frozen=True):
    """One node of the mesh, in this state since `since` (the clock of `now`). `offer` is None until it came.

    `load` is what its last answer to a probe of ours said; None of those that we do not probe.
    """

    node: NodeId
    state: MemberState
    certified: Certified
    core: Core
    offer: Offer | None
    version: Version
    since: float
    load: Load | None = None


Outgoing: TypeAlias = (
    Probe | ProbeAck | ProbeRequest | ProbeReport | Rumours | StateWants | States | Summary | BucketDigests
)


class Send(Struct, frozen=True, gc=False):
    """Send to a peer; nothing happens if its session is gone."""

    node: NodeId
    message: Outgoing


class Dial(Struct, frozen=True, gc=False):
    """Try for a session with a node at these addresses; answer with `PeerUp` or `DialFailed`."""

    node: NodeId
    addresses: tuple[str, ...]


class Drop(Struct, frozen=True, gc=False):
    """End the session with a node, if there is one: it is revoked."""

    node: NodeId


class PublishAnew(Struct, frozen=True, gc=False):
    """Publish a version of this node's offer that is newer than `above`: it is time, or somebody suspects this node."""

    above: Version


class MakeClaim(Struct, frozen=True, gc=False):
    """Sign this and answer with `ClaimMade`, at once."""

    claim: Claim


class MemberChanged(Struct, frozen=True, gc=False):
    """A member is new or differs in more than its version and load from what was last said of it."""

    member: Member


class Wake(Struct, frozen=True, gc=False):
    """Send `Tick` at this time (the clock of `now`), in place of any earlier wish."""

    at: float


Effect: TypeAlias = Send | Dial | Drop | PublishAnew | MakeClaim | MemberChanged | Wake
