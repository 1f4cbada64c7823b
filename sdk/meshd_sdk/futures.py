"""The future of one unit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures._base import CANCELLED
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from meshd_protocol.messages.local import SubmittedUnit
    from meshd_sdk.stream import UnitStream

T = TypeVar("T")


class MeshFuture(Future[T]):
    """A `concurrent.futures.Future` that knows its unit.

    The mesh does not tell when a unit starts, so `running()` is never true, and `cancel()` succeeds until the result
    has arrived: the future is cancelled at once, the mesh is told and forgets or stops the unit, and what has been
    computed is dropped. `index` is the unit's place in its job, -1 until it has been sent.
    """

    def __init__(self, stream: UnitStream, unit: SubmittedUnit | None) -> None:
        super().__init__()
        self.stream = stream
        self.unit = unit
        self.size = 0 if unit is None else len(unit.payload)
        self.index = -1

    def cancel(self) -> bool:
        """Cancel unless the result is here; true if the future is cancelled now."""
        if not super().cancel():
            return False
        with self._condition:  # the lock is re-entrant; whoever finds CANCELLED here is the one that cancelled
            first = self._state == CANCELLED
            if first:
                self.set_running_or_notify_cancel()
        if first:
            self.unit = None
            self.stream.cancel(self)
        return True

    def end_cancelled(self) -> None:
        """The mesh says that the unit was cancelled, by whomever."""
        if super().cancel():
            with self._condition:
                if self._state == CANCELLED:
                    self.set_running_or_notify_cancel()

    def end_returned(self, result: T) -> None:
        """Give the result, unless the future was cancelled meanwhile."""
        try:
            self.set_result(result)
        except InvalidStateError:
            return

    def end_raised(self, error: BaseException) -> None:
        """Give the exception, unless the future was cancelled meanwhile."""
        try:
            self.set_exception(error)
        except InvalidStateError:
            return

    def orphan(self, error: BaseException) -> None:
        """End in a fork of the process, where the result will never arrive, nobody waits and callbacks do not count."""
        self._condition = threading.Condition()
        self._waiters.clear()
        self._done_callbacks: list[Callable[[Future[T]], object]] = []
        self.end_raised(error)


def failed(error: BaseException) -> Future[T]:
    """A future of a call that never became a unit."""
    future: Future[T] = Future()
    future.set_exception(error)
    return future
