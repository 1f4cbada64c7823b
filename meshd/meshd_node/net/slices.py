"""Messages too large for one frame: cut into slices as the socket takes them, put together again within bounds."""

from collections import deque
from dataclasses import dataclass
from typing import Final, cast

from meshd_node.net.throttle import Throttle
from meshd_protocol.errors import FrameTooLarge, MalformedMessage
from meshd_protocol.framing import Frame
from meshd_protocol.limits import ASSEMBLY_BYTES_MAX
from meshd_protocol.messages.peer import PEER, Slice

# We send one large message after the other; a peer that mixes them may mix this many.
ASSEMBLIES_MAX: Final = 16


class Slicer:
    """Large messages that wait for the bulk connection, first in, first out."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._waiting: deque[Frame] = deque()
        self._offset = 0
        self.queued_bytes = 0

    def put(self, frame: Frame) -> None:
        """Queue one message as a frame that is too large to be one."""
        self._waiting.append(frame)
        self.queued_bytes += len(frame.body)

    def pause_s(self) -> float:
        """How long the next slice has to wait."""
        return self._throttle.pause_s()

    def append_next(self, out: bytearray) -> None:
        """Append the next slice to `out`; there must be one. Slices are made late: a message is in memory once."""
        kind, stream, body = self._waiting[0]
        data = body[self._offset : self._offset + self._throttle.slice_bytes]
        PEER.append(out, Slice(kind, len(body), self._offset, data), stream)
        self._offset += len(data)
        self.queued_bytes -= len(data)
        self._throttle.spend(len(data))
        if self._offset == len(body):
            self._waiting.popleft()
            self._offset = 0


@dataclass(slots=True)
class _Assembly:
    kind: int
    data: bytearray
    filled: int = 0


class Assembler:
    """Puts a peer's slices together. What may arrive is bounded before any of it is kept."""

    def __init__(self) -> None:
        self._open: dict[int, _Assembly] = {}
        self._announced = 0

    def add(self, part: Slice, stream: int) -> Frame | None:
        """Take one slice; return the frame that it completes. Raise the peer's fault if it does not fit."""
        if part.offset == 0 and len(part.data) == part.total and stream not in self._open:
            return Frame(part.kind, stream, part.data)
        assembly = self._begin(part, stream) if part.offset == 0 else self._open.get(stream)
        if (
            assembly is None
            or (assembly.kind, len(assembly.data)) != (part.kind, part.total)
            or assembly.filled != part.offset
        ):
            raise MalformedMessage(f"a slice at {part.offset} of stream {stream} continues nothing")
        if part.offset + len(part.data) > part.total:
            raise MalformedMessage(f"a slice of stream {stream} goes beyond the total of {part.total} bytes")
        assembly.filled = part.offset + len(part.data)
        assembly.data[part.offset : assembly.filled] = part.data
        return self._finish(stream, assembly) if assembly.filled == part.total else None

    def _begin(self, part: Slice, stream: int) -> _Assembly:
        if stream in self._open:
            raise MalformedMessage(f"a second large message begins on stream {stream} before the first has ended")
        if len(self._open) >= ASSEMBLIES_MAX or self._announced + part.total > ASSEMBLY_BYTES_MAX:
            raise FrameTooLarge(
                f"{len(self._open) + 1} large messages at once of {self._announced + part.total} bytes together; "
                f"{ASSEMBLIES_MAX} of {ASSEMBLY_BYTES_MAX} are allowed"
            )
        self._announced += part.total
        # Zeroed memory of the kernel's, which is real only once it is written.
        assembly = self._open[stream] = _Assembly(part.kind, bytearray(part.total))
        return assembly

    def _finish(self, stream: int, assembly: _Assembly) -> Frame:
        del self._open[stream]
        self._announced -= len(assembly.data)
        # The decoder reads any buffer; a copy of 64 MiB would cost 40 ms of page faults.
        return Frame(assembly.kind, stream, cast("bytes", assembly.data))
