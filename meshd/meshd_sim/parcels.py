"""Messages on their way: real frames of the real codec, and how many bytes of each kind were sent."""

from typing import Final

from meshd_protocol.framing import Frame, Message
from meshd_protocol.limits import FRAME_HEADER_BYTES
from meshd_protocol.messages.peer import PEER
from meshd_sim.conditions import KEEP_ALIVE_S, RECORD_BYTES

_KIND_AT: Final = 4
# A ping or a pong: a frame of an empty list, in a record of its own.
KEEP_ALIVE_BYTES: Final = FRAME_HEADER_BYTES + 1 + RECORD_BYTES


class Parcel:
    """One encoded message. It is decoded once, by the first of those who receive these bytes; messages are frozen."""

    __slots__ = ("_message", "frame", "name", "stream")

    def __init__(self, message: Message, stream: int) -> None:
        self.frame = PEER.encode(message, stream)
        self.name = type(message).__name__
        self.stream = stream
        self._message: Message | None = None

    def open(self) -> Message:
        """What a receiver reads out of the bytes."""
        if self._message is None:
            frame = self.frame
            self._message = PEER.decode(Frame(frame[_KIND_AT], self.stream, frame[FRAME_HEADER_BYTES:]))
        return self._message


class Traffic:
    """Bytes sent, by the kind of message, frame headers included; what TLS adds stands by itself."""

    def __init__(self) -> None:
        self.messages: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self.records = 0
        self.keep_alives = 0

    def idle(self, seconds: float) -> None:
        """Count the pings, and the answers to them, of a session on which nothing was said for so long."""
        self.keep_alives += 2 * int(seconds / KEEP_ALIVE_S)

    def sent(self, parcels: list[Parcel]) -> int:
        """Count one write; return its bytes on the line."""
        size = RECORD_BYTES
        for parcel in parcels:
            length = len(parcel.frame)
            size += length
            self.messages[parcel.name] = self.messages.get(parcel.name, 0) + 1
            self.bytes[parcel.name] = self.bytes.get(parcel.name, 0) + length
        self.records += 1
        return size

    def total(self) -> int:
        """All bytes on the line."""
        return sum(self.bytes.values()) + RECORD_BYTES * self.records + KEEP_ALIVE_BYTES * self.keep_alives
