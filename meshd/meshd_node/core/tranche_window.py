"""The newest tranches of a job that an executor keeps, counted alike at both ends of a session."""

from collections import OrderedDict
from typing import Generic, TypeVar

from meshd_protocol.limits import DIGESTS_KEPT

T = TypeVar("T")


class TrancheWindow(Generic[T]):
    """Tranches in the order in which they were sent, the oldest dropped beyond `DIGESTS_KEPT` digests.

    The owner's copy predicts the executor's: both see the same tranches in the same order, on the control connection.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[int, T]] = OrderedDict()
        self._digests = 0

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._kept

    def get(self, sequence: int) -> T | None:
        """What was put under this number; None if it was dropped or never came."""
        entry = self._kept.get(sequence)
        return None if entry is None else entry[1]

    def put(self, sequence: int, digests: int, value: T) -> None:
        """Add the newest tranche; one that is here already becomes the newest."""
        if sequence in self._kept:
            self._digests -= self._kept.pop(sequence)[0]
        self._kept[sequence] = (digests, value)
        self._digests += digests
        while self._digests > DIGESTS_KEPT:
            _, (dropped, _) = self._kept.popitem(last=False)
            self._digests -= dropped
