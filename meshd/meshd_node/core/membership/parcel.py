"""One message of rumours while it is being filled, within its bounds."""

from collections.abc import Sequence
from typing import Final

from meshd_protocol.ids import NodeId
from meshd_protocol.limits import (
    CLAIMS_PER_MESSAGE_MAX,
    REVOCATIONS_PER_MESSAGE_MAX,
    STATES_PER_MESSAGE_MAX,
)
from meshd_protocol.messages.membership import (
    Rumours,
    SignedClaim,
    SignedRevocation,
    SignedState,
)

# MessagePack's heads of one signed record: the array, body, signature and what else it has.
ENVELOPE_BYTES: Final = 8


def size_of(signed: SignedState | SignedClaim | SignedRevocation) -> int:
    """How many bytes a signed record adds to a message."""
    size = len(signed.body) + len(signed.signature) + ENVELOPE_BYTES
    return size + len(signed.issuer) if isinstance(signed, SignedRevocation) else size


class Parcel:
    """What one neighbour is sent in one tick. `room`: the bytes that are left."""

    __slots__ = ("claims", "digests", "revocations", "room", "states", "target")

    def __init__(self, target: NodeId, room: int) -> None:
        self.target = target
        self.room = room
        self.revocations: list[SignedRevocation] = []
        self.claims: list[SignedClaim] = []
        self.states: list[SignedState] = []
        self.digests: list[bytes] = []

    def add(self, signed: SignedState | SignedClaim | SignedRevocation) -> bool:
        """Put a record in if there is room. A single one always fits: it would never leave otherwise."""
        size = size_of(signed)
        if size > self.room and not self.empty:
            return False
        if isinstance(signed, SignedState):
            fits = len(self.states) < STATES_PER_MESSAGE_MAX
            if fits:
                self.states.append(signed)
        elif isinstance(signed, SignedClaim):
            fits = len(self.claims) < CLAIMS_PER_MESSAGE_MAX
            if fits:
                self.claims.append(signed)
        else:
            fits = len(self.revocations) < REVOCATIONS_PER_MESSAGE_MAX
            if fits:
                self.revocations.append(signed)
        if fits:
            self.room -= size
        return fits

    def add_digests(self, digests: bytes) -> None:
        """Put digests in for which there is room."""
        if digests:
            self.digests.append(digests)
            self.room -= len(digests)

    def alike(self, other: "Parcel") -> bool:
        """Whether both say the same."""
        return (
            self.digests == other.digests
            and self.states == other.states
            and self.claims == other.claims
            and self.revocations == other.revocations
        )

    @property
    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not (self.revocations or self.claims or self.states or self.digests)

    def message(self) -> Rumours:
        """The message as it travels."""
        return Rumours(self.revocations, self.claims, self.states, b"".join(self.digests))


def messages(parcels: Sequence[Parcel]) -> list[Rumours | None]:
    """What each parcel says, None for an empty one. Most say the same: then it is one message, to be encoded once."""
    made: list[Rumours | None] = []
    for index, parcel in enumerate(parcels):
        twin = next((before for before in range(index) if parcels[before].alike(parcel)), None)
        if twin is not None:
            made.append(made[twin])
        else:
            made.append(None if parcel.empty else parcel.message())
    return made
