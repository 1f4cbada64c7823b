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

    __slots__ = ("_opened", "frame", "name", "size", "stream")

    def __init__(self, message: Message, stream: int) -> None:
        self.frame = PEER.encode(message, stream)
        self.size = len(self.frame)
        self.name = type(message).__name__
        self.stream = stream
        self._opened: tuple[Message, int] | None = None

    def open(self) -> tuple[Message, int]:
        """What a receiver reads out of the bytes, and on which stream."""
        if self._opened is None:
            frame = self.frame
            message = PEER.decode(Frame(frame[_KIND_AT], self.stream, frame[FRAME_HEADER_BYTES:]))
            self._opened = (message, self.stream)
        return self._opened


class Traffic:
    """Bytes sent, by the kind of message, frame headers included; what TLS adds stands by itself."""

    def __init__(self) -> None:
        # Messages and bytes of each kind.
        self._counts: dict[str, list[int]] = {}
        self.records = 0
        self.keep_alives = 0

    @property
    def messages(self) -> dict[str, int]:
        """How many were sent, by kind."""
        return {name: messages for name, (messages, _) in self._counts.items()}

    @property
    def bytes(self) -> dict[str, int]:
        """Their bytes, by kind."""
        return {name: size for name, (_, size) in self._counts.items()}

    def idle(self, seconds: float) -> None:
        """Count the pings, and the answers to them, of a session on which nothing was said for so long."""
        self.keep_alives += 2 * int(seconds / KEEP_ALIVE_S)

    def sent(self, parcels: list[Parcel]) -> int:
        """Count one write; return its bytes on the line."""
        size = RECORD_BYTES
        for parcel in parcels:
            size += parcel.size
            count = self._counts.get(parcel.name)
            if count is None:
                count = self._counts[parcel.name] = [0, 0]
            count[0] += 1
            count[1] += parcel.size
        self.records += 1
        return size

    def total(self) -> int:
        """All bytes on the line."""
        return sum(self.bytes.values()) + RECORD_BYTES * self.records + KEEP_ALIVE_BYTES * self.keep_alives
