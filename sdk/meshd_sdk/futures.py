"""The future of one unit, a third as dear as its parent class.

A `concurrent.futures.Future` makes a condition and two lists, 7 µs with what the garbage collector makes of them, and
most futures of a batch are done before anybody waits for them. So here the three are made when they are first needed;
a future that ends before shares those of all that did.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from concurrent.futures._base import CANCELLED, FINISHED, PENDING
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from meshd_protocol.messages.local import SubmittedUnit
    from meshd_sdk.errors import MeshError
    from meshd_sdk.stream import UnitStream

T = TypeVar("T")

# Held while a future gets what waiting for it needs, or ends without; nothing else is locked and nothing called inside.
_deciding = threading.Lock()


class _Attendance(Protocol):
    """Who waits for a future, and the lock of its state."""

    condition: Any
    waiters: Any
    callbacks: list[Callable[[Any], object]]


class _Somebody:
    """What `Future.__init__` would make."""

    __slots__ = ("callbacks", "condition", "waiters")

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.waiters: list[Any] = []
        self.callbacks: list[Callable[[Any], object]] = []


class _Nobody:
    """For all futures that ended before anybody waited: their state is final, so there is nothing to lock or to tell.

    Not one real lock for all: `wait` locks many futures at a time, in the order of their addresses.
    """

    def __init__(self) -> None:
        self.condition = self.waiters = self
        self.callbacks: list[Callable[[Any], object]] = []

    def acquire(self) -> bool:
        """Let whoever is just ending the future finish."""
        with _deciding:
            return True

    def release(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def notify_all(self) -> None:
        """Nobody waits."""

    def append(self, _: object) -> None:
        """A waiter on a future that is done is never told."""

    def remove(self, _: object) -> None:
        """As it was never kept."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


_NOBODY: Final = _Nobody()


class MeshFuture(Future[T]):
    """A `concurrent.futures.Future` that knows its unit.

    The mesh does not tell when a unit starts, so `running()` is never true, and `cancel()` succeeds until the result
    has arrived: the future is cancelled at once, the mesh is told and forgets or stops the unit, and what has been
    computed is dropped. `index` is the unit's place in its job, -1 until it has been sent.
    """

    def __init__(self, stream: UnitStream, unit: SubmittedUnit | None) -> None:
        # Not super().__init__(), see above; a test holds this list against the parent's.
        self._state = PENDING
        self._result = None
        self._exception = None
        self._attendance: _Attendance | None = None
        self.stream = stream
        self.unit = unit
        self.size = 0 if unit is None else len(unit.payload)
        self.index = -1

    @property
    def _condition(self) -> Any:  # type: ignore[override]  # the parent only reads it, as of these three
        return self._attend().condition

    @property
    def _waiters(self) -> Any:  # type: ignore[override]
        return self._attend().waiters

    @property
    def _done_callbacks(self) -> Any:
        return self._attend().callbacks

    def _attend(self) -> _Attendance:
        attendance = self._attendance
        if attendance is None:
            made = _Somebody()
            with _deciding:
                attendance = self._attendance
                if attendance is None:
                    attendance = self._attendance = made
        return attendance

    def result(self, timeout: float | None = None) -> T:
        """As the parent's; a result that is here already is given without its lock."""
        if self._state == FINISHED and self._exception is None:
            return self._result  # type: ignore[return-value]  # set before the state
        return super().result(timeout)

    def cancel(self) -> bool:
        """Cancel unless the result is here; true if the future is cancelled now."""
        if not super().cancel():
            return False
        if self._notify_cancelled():
            self.unit = None
            self.stream.cancel(self)
        return True

    def end_cancelled(self) -> None:
        """The mesh says that the unit was cancelled, by whomever."""
        if super().cancel():
            self._notify_cancelled()

    def end_returned(self, result: T) -> None:
        """Give the result, unless the future was cancelled meanwhile."""
        with _deciding:
            unattended = self._attendance is None
            if unattended:
                self._attendance = _NOBODY
                self._result = result
                self._state = FINISHED
        if not unattended:
            with suppress(InvalidStateError):
                self.set_result(result)

    def end_raised(self, error: BaseException) -> None:
        """Give the exception, unless the future was cancelled meanwhile."""
        with suppress(InvalidStateError):
            self.set_exception(error)

    def end_lost(self, error: MeshError) -> None:
        """End with what befell many futures: a copy for each, since raising an exception writes to it."""
        self.end_raised(copy.copy(error))

    def orphan(self, error: MeshError) -> None:
        """End in a fork of the process, where the result will never arrive, nobody waits and callbacks do not count."""
        self._attendance = None
        self.end_lost(error)

    def _notify_cancelled(self) -> bool:
        """Tell who waits; true for the one caller that does, of all that cancelled."""
        with self._condition:  # re-entrant
            first = self._state == CANCELLED
            return first and not self.set_running_or_notify_cancel()


def failed(error: BaseException) -> Future[T]:
    """A future of a call that never became a unit."""
    future: Future[T] = Future()
    future.set_exception(error)
    return future
