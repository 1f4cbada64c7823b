"""What waits to be sent, in order, and the frames that were made of it.

Everything but `put` is called by whoever holds the link's flush lock: its own thread or a thread that submits. The
latter may be the main thread, into which Ctrl-C can raise `KeyboardInterrupt` after any call. So every step here either
changes nothing that matters, is a single call into C, or stores its outcome in statements without a call between them;
a step that was interrupted is simply done again by the next flush.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from meshd_protocol.framing import Message
from meshd_protocol.messages.local import LOCAL, CancelUnits, CloseJob, SubmittedUnit, SubmitUnits
from meshd_sdk.futures import MeshFuture

if TYPE_CHECKING:
    from meshd_sdk.stream import UnitStream

# As many units as one SubmitUnits, or indices as one CancelUnits, may carry.
_BATCH_MAX: Final = 4096
# A frame is closed at this size: large enough for one write to be worth it, small enough to start the daemon early.
_FRAME_BYTES: Final = 1 << 20
# Frames are joined up to this size, so that a burst of small ones is one system call.
_JOIN_BYTES: Final = 1 << 16


class Control(Struct, frozen=True, eq=False):
    """A message that is not a unit, for a stream."""

    stream: int
    message: Message


class Cancellation(Struct, frozen=True, eq=False):
    """A unit that is not wanted any more."""

    future: MeshFuture[Any]


class Closing(Struct, frozen=True, eq=False):
    """No more units will come for this stream."""

    stream: UnitStream


Item = MeshFuture[Any] | Control | Cancellation | Closing


class Outbox:
    """A queue of items that becomes bytes on a socket that does not block."""

    def __init__(self) -> None:
        self._queue: deque[Item] = deque()
        self._staged: list[Item] = []
        self._next = 0  # the first of `_staged` that is in no frame yet
        self._frames: list[bytes | memoryview] = []
        self._taken: list[int] = []  # bytes that the socket took and that are still in `_frames`

    def put(self, item: Item) -> None:
        """Append an item; any thread may."""
        self._queue.append(item)

    @property
    def queued(self) -> int:
        """Items that were put and not looked at."""
        return len(self._queue)

    @property
    def is_empty(self) -> bool:
        """Whether all that was put is with the kernel."""
        return not (self._queue or self._frames or self._next < len(self._staged))

    @property
    def is_blocked(self) -> bool:
        """Whether frames wait for the socket."""
        return bool(self._frames)

    def unsent_futures(self) -> list[MeshFuture[Any]]:
        """Units that are in no frame yet."""
        return [item for item in [*self._staged[self._next :], *self._queue] if isinstance(item, MeshFuture)]

    def drain(self) -> list[Item]:
        """Give up: what was not made into frames."""
        left = [*self._staged[self._next :], *self._queue]
        self._staged, self._next, self._frames = [], 0, []
        self._queue.clear()
        return left

    def encode(self) -> None:
        """Make frames of what is queued, up to a size worth sending."""
        self._settle()
        while not self._frames or sum(map(len, self._frames)) < _JOIN_BYTES:
            if self._next == len(self._staged):
                self._staged, self._next = [], 0
                # One call, so that no item can fall between the queue and the list.
                self._staged.extend(map(deque.popleft, repeat(self._queue, min(len(self._queue), _BATCH_MAX))))
                if not self._staged:
                    break
            self._encode_next()

    def send(self, to: socket.socket) -> bool:
        """Send frames; return false if the socket takes no more for now. Raise `OSError` if it takes none ever."""
        self._settle()
        while self._frames:
            data = self._frames[0] if len(self._frames) == 1 else b"".join(self._frames)
            self._frames = [data]
            try:
                # One call, so that bytes that were sent are always counted.
                self._taken.extend(map(to.send, (data,)))
            except BlockingIOError:
                return False
            self._settle()
        return True

    def _settle(self) -> None:
        """Drop from the frames what the socket has taken."""
        if self._taken:
            [taken], [frame] = self._taken, self._frames
            rest: list[bytes | memoryview] = [memoryview(frame)[taken:]] if taken < len(frame) else []
            self._frames, self._taken = rest, []

    def _encode_next(self) -> None:
        """Make one frame, or none, of the first staged items that fit together."""
        match self._staged[self._next]:
            case MeshFuture() as future:
                self._encode_units(future.stream)
            case Cancellation(future):
                self._encode_cancellations(future.stream)
            case Control(stream, message):
                frame = LOCAL.encode(message, stream)
                self._next, self._frames = self._next + 1, [*self._frames, frame]
            case Closing(stream):
                frame = LOCAL.encode(CloseJob(), stream.id)
                stream.closing_sent()  # first, since it may be done twice but not never
                self._next, self._frames = self._next + 1, [*self._frames, frame]

    def _encode_units(self, stream: UnitStream) -> None:
        futures: list[MeshFuture[Any]] = []
        units: list[SubmittedUnit] = []
        size = skipped = 0
        for item in islice(self._staged, self._next, None):
            if not isinstance(item, MeshFuture) or item.stream is not stream:
                break
            unit = item.unit
            if unit is None:  # cancelled before it was sent: the daemon never hears of it
                skipped += 1
                continue
            if size and size + len(unit.payload) > _FRAME_BYTES:
                break
            futures.append(item)
            units.append(unit)
            size += len(unit.payload)
        count = stream.count + len(units)
        frames = [*self._frames, LOCAL.encode(SubmitUnits(units), stream.id)] if units else self._frames
        for index, future in enumerate(futures, stream.count):
            future.index = index
        stream.futures.update(zip(range(stream.count, count), futures, strict=True))
        after = self._next + len(units) + skipped
        stream.count, self._next, self._frames = count, after, frames
        for future in futures:
            future.unit = None  # the payload is in the frame now
        stream.end_left()

    def _encode_cancellations(self, stream: UnitStream) -> None:
        cancelled = _leading_cancellations(self._staged, self._next, stream)
        indices = [future.index for future in cancelled if stream.futures.get(future.index) is future]
        frames = [*self._frames, LOCAL.encode(CancelUnits(indices), stream.id)] if indices else self._frames
        self._next, self._frames = self._next + len(cancelled), frames
        stream.forget(cancelled)


def _leading_cancellations(staged: Sequence[Item], start: int, stream: UnitStream) -> list[MeshFuture[Any]]:
    cancelled = []
    for item in islice(staged, start, None):
        if not isinstance(item, Cancellation) or item.future.stream is not stream:
            break
        cancelled.append(item.future)
    return cancelled
