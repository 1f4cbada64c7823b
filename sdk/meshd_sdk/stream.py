"""The units of one job, on one stream of the link."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from itertools import count
from typing import Any, Final, TypeAlias

from meshd_protocol.errors import UnexpectedMessage
from meshd_protocol.framing import Message
from meshd_protocol.ids import JobId, function_digest, to_text
from meshd_protocol.limits import JOB_FUNCTIONS_MAX, JOB_UNITS_MAX
from meshd_protocol.messages.local import (
    AttachJob,
    DefineFunction,
    Denial,
    JobEnded,
    JobOpened,
    OpenJob,
    Outcome,
    SubmittedUnit,
    UnitsEnded,
)
from meshd_sdk.errors import MeshClosed, MeshError, MeshRefused, UnitFailed
from meshd_sdk.functions import PickledFunction
from meshd_sdk.futures import MeshFuture
from meshd_sdk.link import Link
from meshd_sdk.outbox import Cancellation, Closing, Control

_CANCELLED: Final = "cancelled"

MakeFuture: TypeAlias = "Callable[[UnitStream, SubmittedUnit], MeshFuture[Any]]"


class UnitStream:
    """Submits units and ends their futures. `count` and `futures` are the outbox's: units that were sent, in order.

    A stream that is `kept` belongs to a job that outlives the program: shutting down does not wait for it.
    """

    def __init__(self, link: Link, opening: OpenJob | AttachJob, *, kept: bool = False) -> None:
        self.id = 0
        self.count = 0
        self.futures: dict[int, MeshFuture[Any]] = {}
        self.opened: Future[JobId] = Future()
        self.ended: Future[JobEnded] = Future()
        self.is_kept = kept
        self.all: list[MeshFuture[Any]] = []  # of a kept job: its futures in order, done or not
        self._drained = threading.Event()
        self._link = link
        self._numbers: dict[bytes, int] = {}
        self._defining = threading.Lock()
        self._serials = count(1)
        # Whether another unit may be submitted. A plain field, since every submit asks.
        self.takes_units = isinstance(opening, OpenJob)
        self._closing = self._closing_sent = isinstance(opening, AttachJob)
        self._loss: MeshError | None = None
        self._is_cancelled = False
        link.open(opening, self._numbered)

    @property
    def in_flight(self) -> int:
        """Units that were sent and have not ended."""
        return len(self.futures)

    def _numbered(self, stream: int) -> UnitStream:
        self.id = stream
        return self

    def submit(self, function: PickledFunction, payload: bytes, make: MakeFuture = MeshFuture) -> MeshFuture[Any]:
        """Make a unit, and the future of its end."""
        number = self._numbers.get(function.digest)
        if number is None:
            number = self._define(function)
        future = make(self, SubmittedUnit(number, payload))
        if next(self._serials) == JOB_UNITS_MAX:
            self.takes_units = False
        if self.is_kept:
            self.all.append(future)
        self._link.put_unit(future, len(self.futures))
        return future

    def ship(self, data: bytes) -> None:
        """Send what units need and none calls, before them."""
        self._define(PickledFunction(data, function_digest(data)))

    def _define(self, function: PickledFunction) -> int:
        with self._defining:
            number = self._numbers.get(function.digest)
            if number is None:
                number = len(self._numbers)
                self._link.put(Control(self.id, DefineFunction(number, function.data)))
                # Only now may others use the number: the definition is queued before any unit that needs it.
                self._numbers[function.digest] = number
                if len(self._numbers) == JOB_FUNCTIONS_MAX:
                    self.takes_units = False
        return number

    def cancel(self, future: MeshFuture[Any]) -> None:
        """Tell the daemon that a unit is not wanted, together with others that are cancelled meanwhile."""
        self._link.put(Cancellation(future))
        self._link.wake()

    @property
    def is_closed(self) -> bool:
        """Whether the daemon was told that no more units come. What a lost stream takes ends with the loss."""
        return self._closing and self._loss is None

    @property
    def is_drained(self) -> bool:
        """Whether all its units have ended and no more will come."""
        return self._drained.is_set()

    def wait_until_drained(self) -> None:
        """Wait for that. In a callback, where it would be forever, return."""
        if not self._link.is_current_thread:
            self._drained.wait()

    def cancel_all(self) -> None:
        """Cancel every unit that has not ended."""
        for future in [*self._link.unsent_futures(), *self.futures.values()]:
            if future.stream is self:
                future.cancel()

    def close(self) -> None:
        """No more units: what is under way ends. For a job that is kept, what is under way is left to others."""
        if not self._closing:
            self._closing, self.takes_units = True, False
            self._link.put(Closing(self))
            self._link.wake()
        elif self.is_kept and self._closing_sent and not self._link.is_open:
            job = to_text(self.opened.result()) if self.opened.done() and not self.opened.exception() else "ID"
            self._link.release(self.id)
            self.lose(
                MeshClosed(f"shut down before the job ended; it goes on: `Mesh().attach({job!r})` finds it again")
            )

    # --- called by the outbox -------------------------------------------------------------------------------------

    def closing_sent(self) -> None:
        """The daemon will learn that no more units come."""
        self._closing_sent = True
        self._drain()

    def forget(self, cancelled: list[MeshFuture[Any]]) -> None:
        """What comes of these units is dropped."""
        self._link.free(
            sum(each.size for each in cancelled if each.index < 0 or self.futures.pop(each.index, None) is not None)
        )
        self._drain()

    def end_left(self) -> None:
        """If the stream is lost, end the futures that nobody will answer. Called after each change of either."""
        if self._loss is None:
            return
        freed = 0
        while self.futures:
            _, future = self.futures.popitem()
            freed += future.size
            if self._is_cancelled:
                future.end_cancelled()
            else:
                future.end_lost(self._loss)
        self._link.free(freed)
        self._drained.set()

    # --- called by the link's thread ------------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """End futures."""
        match message:
            case UnitsEnded(outcomes):
                self._end(outcomes)
            case JobOpened(job):
                _resolve(self.opened, job)
            case JobEnded():
                self._end_job(message)
            case Denial(code, reason):
                self._link.release(self.id)
                self.lose(MeshRefused(reason, code))
            case _:
                raise UnexpectedMessage(f"a {type(message).__name__} on a job's stream")

    def lose(self, error: MeshError) -> None:
        """End every future that is left, and those of units that are still to be sent."""
        self._closing, self.takes_units = True, False
        self._loss = error
        for waiting in (self.opened, self.ended):
            if not waiting.done():
                waiting.set_exception(error)
        self.end_left()

    def orphan(self, error: MeshError) -> None:
        """End, in a fork, what the parent waits for."""
        self.opened, self.ended, self._drained = Future(), Future(), threading.Event()
        futures, self.futures = self.futures, {}
        for future in futures.values():
            future.orphan(error)
        self.lose(error)

    def unknown(self, outcome: Outcome) -> None:
        """A unit ended that was never sent."""
        raise UnexpectedMessage(f"unit {outcome.index} ended, {self.count} were submitted")

    def _end(self, outcomes: list[Outcome]) -> None:
        # Imported with the first outcomes, while others are computed: it is half of what the whole package costs.
        from meshd_sdk.results import settle  # noqa: PLC0415

        futures, sent, freed = self.futures, self.count, 0
        for outcome in outcomes:
            future = futures.pop(outcome.index, None)
            if future is not None:
                freed += future.size
                settle(future, outcome)
            elif outcome.index >= sent:
                self.unknown(outcome)
            # Else it was cancelled here while its end was on the way.
        self._link.free(freed)
        self._drain()

    def _end_job(self, message: JobEnded) -> None:
        self._link.release(self.id)
        self._closing, self.takes_units = True, False
        self._loss = UnitFailed(message.reason or f"the job ended before this unit did: it is {message.state}")
        self._is_cancelled = message.state == _CANCELLED
        self.end_left()
        _resolve(self.ended, message)

    def _drain(self) -> None:
        """Once nothing is left to wait for, let go of the stream; a kept job is followed to its end."""
        if self._closing_sent and not self.futures and not self.is_kept:
            self._drained.set()
            self._link.release(self.id)


def _resolve(waiting: Future[Any], value: object) -> None:
    try:
        waiting.set_result(value)
    except InvalidStateError as error:
        raise UnexpectedMessage(f"a second {type(value).__name__} on a stream") from error
