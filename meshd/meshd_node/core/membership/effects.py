"""What membership asks its shell to do, in order."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from meshd_protocol.certificates import Certified
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.peer import StateDigests, States, StateWants
from meshd_protocol.records import Core, Offer, Version


class MemberState(Enum):
    """A member as this node sees it."""

    ALIVE = "alive"
    DRAINING = "draining"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Member:
    """One node of the mesh, in this state since `since` (the clock of `now`). `offer` is None until it came."""

    node: NodeId
    state: MemberState
    certified: Certified
    core: Core
    offer: Offer | None
    version: Version
    since: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send to a peer; nothing happens if its session is gone."""

    node: NodeId
    message: States | StateDigests | StateWants


@dataclass(frozen=True, slots=True)
class Dial:
    """Try for a session with a node at these addresses; answer with `PeerUp` or `DialFailed`."""

    node: NodeId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """A member is new or differs from what was last said of it."""

    member: Member


@dataclass(frozen=True, slots=True)
class Wake:
    """Send `Tick` at this time (the clock of `now`), in place of any earlier wish."""

    at: float


Effect: TypeAlias = Send | Dial | MemberChanged | Wake
