"""One queue of rumours: how often each is still passed on, and in which form."""

from collections.abc import Hashable, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

from msgspec import Struct

from meshd_node.core.membership.parcel import Parcel
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import DIGEST_ENTRY_BYTES, SignedClaim, SignedRevocation, SignedState

# A rumour that waits takes some 200 bytes besides the record, which is held anyhow.
RUMOURS_MAX: Final = 4_096

_KeyT = TypeVar("_KeyT", bound=Hashable)


class Rumour(Struct, gc=False):
    """Something that was passed on `sent` times; `whole` times more as it is, then by its digest.

    It does not go back whole to its `teller`. What has no digest is `whole` to the end.
    """

    signed: SignedState | SignedClaim | SignedRevocation
    digest: bytes
    whole: int
    teller: NodeId | None
    sent: int = 0


class Lane(Generic[_KeyT]):
    """Rumours by what they are about: a newer one about the same takes the place of an older one."""

    __slots__ = ("_fresh", "_known", "_told")

    def __init__(self) -> None:
        self._fresh: dict[_KeyT, Rumour] = {}  # those that still travel whole, the eldest first
        self._known: dict[_KeyT, Rumour] = {}  # those that travel as digests, those first that have waited longest
        self._told: list[tuple[_KeyT, Rumour]] = []  # of this tick, to become known at its end

    def __len__(self) -> int:
        return len(self._fresh) + len(self._known)

    @property
    def busy(self) -> bool:
        """Whether there is anything to pass on."""
        return bool(self._fresh or self._known)

    def __contains__(self, key: _KeyT) -> bool:
        return key in self._fresh or key in self._known

    def put(self, key: _KeyT, rumour: Rumour) -> None:
        """Pass this on. If there are too many, those are given up that were passed on most."""
        self._known.pop(key, None)
        self._fresh[key] = rumour
        if len(self) > RUMOURS_MAX:
            crowded = self._known or self._fresh
            del crowded[next(iter(crowded))]

    def drop(self, key: _KeyT) -> None:
        """Pass this on no more."""
        self._fresh.pop(key, None)
        self._known.pop(key, None)

    def fill(self, parcels: Sequence[Parcel], spread: int) -> None:
        """Put whole records into parcels, each into as many as it may, its digest into the others.

        What was passed on `spread` times is done.
        """
        for key in [*self._fresh]:
            rumour = self._fresh[key]
            if not _pass_on(rumour, parcels):
                break  # what comes later waits too, or large records would never get their turn
            if rumour.sent >= spread:
                del self._fresh[key]
            elif rumour.whole <= 0 and rumour.digest:
                del self._fresh[key]
                self._told.append((key, rumour))

    def fill_digests(self, parcels: Sequence[Parcel], spread: int) -> None:
        """Put in the digests of what was passed on before this tick, as many as all parcels have room for."""
        if self._known:
            self._fill_known(parcels, spread)
        self._known.update(self._told)
        self._told.clear()

    def _fill_known(self, parcels: Sequence[Parcel], spread: int) -> None:
        room = min(parcel.room for parcel in parcels) // DIGEST_ENTRY_BYTES
        batch = list(islice(self._known.items(), max(0, room)))
        digests = b"".join([rumour.digest for _, rumour in batch])
        for parcel in parcels:
            parcel.add_digests(digests)
        for key, rumour in batch:
            rumour.sent += len(parcels)
            del self._known[key]
            if rumour.sent < spread:
                self._known[key] = rumour


def _pass_on(rumour: Rumour, parcels: Sequence[Parcel]) -> bool:
    """Put a rumour into parcels; whether it went into any, or was nothing new to any."""
    before = rumour.sent
    for parcel in parcels:
        if parcel.target == rumour.teller:
            rumour.sent += 1
        elif rumour.whole > 0:
            if parcel.add(rumour.signed):
                rumour.whole -= 1
                rumour.sent += 1
        elif rumour.digest and parcel.room >= DIGEST_ENTRY_BYTES:
            parcel.add_digests(rumour.digest)
            rumour.sent += 1
    return rumour.sent > before
