"""What can happen to a node's view of its mesh."""

from dataclasses import dataclass
from typing import TypeAlias

from meshd_protocol.certificates import Certified
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.peer import SignedState, StateDigest
from meshd_protocol.records import Core, Offer, Slot, State


@dataclass(frozen=True, slots=True)
class VerifiedState:
    """A state whose signature, certificates and mesh the shell has checked. `certified` is what a `core` proves."""

    signed: SignedState
    state: State
    content: Core | Offer
    certified: Certified


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A control session with a node has begun; its certificate was checked."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class PeerDown:
    """The session with a node ended. `refused`: its address answered that nobody listens there."""

    node: NodeId
    refused: bool


@dataclass(frozen=True, slots=True)
class DialFailed:
    """A dial that the machine asked for did not end in a session."""

    node: NodeId
    refused: bool


@dataclass(frozen=True, slots=True)
class DigestsArrived:
    """A peer told which versions it holds."""

    sender: NodeId
    digests: list[StateDigest]


@dataclass(frozen=True, slots=True)
class WantsArrived:
    """A peer asks for states."""

    sender: NodeId
    wants: list[tuple[NodeId, Slot]]


@dataclass(frozen=True, slots=True)
class StatesArrived:
    """A peer sent states that passed every check."""

    sender: NodeId
    states: list[VerifiedState]


@dataclass(frozen=True, slots=True)
class Published:
    """This node has a new version of one of its own slots (already signed)."""

    state: VerifiedState


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that the last `Wake` named has come."""


Event: TypeAlias = PeerUp | PeerDown | DialFailed | DigestsArrived | WantsArrived | StatesArrived | Published | Tick
