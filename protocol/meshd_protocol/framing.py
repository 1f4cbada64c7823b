"""Frames: `length u32 | kind u8 | stream u32 | body`, big-endian; `length` counts the rest. Spec: 05-framing.md.

A channel is a closed table of message kinds: a frame of another channel's kind is the peer's fault, not a surprise.
"""

import struct
from collections.abc import Generator, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from meshd_protocol.errors import (
    FrameTooLarge,
    LocalProtocolError,
    MalformedMessage,
    RemoteProtocolError,
    UnknownKind,
)
from meshd_protocol.limits import FRAME_HEADER_BYTES

_HEADER: Final = struct.Struct(">IBI")
_LENGTH_BYTES: Final = 4
_ENCODER: Final = msgspec.msgpack.Encoder()


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A message of some channel. `KIND` is its frame's kind byte."""

    KIND: ClassVar[int]


class Frame(NamedTuple):
    """One whole frame as it was read."""

    kind: int
    stream: int
    body: bytes


class Channel:
    """The messages that may pass between two sorts of process, and the bound on one frame of theirs."""

    def __init__(self, name: str, messages: Sequence[type[Message]], frame_bytes_max: int) -> None:
        """List the messages. Two of one kind are a bug of ours."""
        self.name = name
        self.frame_bytes_max = frame_bytes_max
        self._messages = {message.KIND: message for message in messages}
        assert len(self._messages) == len(messages), f"two messages of one kind in {name}"
        # Made when first needed: they take a third of the time that importing this package takes.
        self._decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {}

    def decode(self, frame: Frame) -> Message:
        """Decode and validate one frame's body; raise `UnknownKind` or `MalformedMessage`, the peer's fault."""
        decoder = self._decoders.get(frame.kind) or self._decoder(frame.kind)
        try:
            message: Message = decoder.decode(frame.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedMessage(f"kind {frame.kind:#04x} on the {self.name} channel: {error}") from error
        return message

    def _decoder(self, kind: int) -> "msgspec.msgpack.Decoder[Any]":
        message = self._messages.get(kind)
        if message is None:
            raise UnknownKind(f"kind {kind:#04x} does not exist on the {self.name} channel")
        decoder = self._decoders[kind] = msgspec.msgpack.Decoder(message)
        return decoder

    def append(self, out: bytearray, message: Message, stream: int = 0) -> int:
        """Append one frame to `out`, return its size. Above the bound raise `LocalProtocolError`, `out` as before."""
        start = len(out)
        _ENCODER.encode_into(message, out, start + FRAME_HEADER_BYTES)
        size = len(out) - start
        if size > self.frame_bytes_max:
            del out[start:]
            raise LocalProtocolError(
                f"a {type(message).__name__} of {size} bytes exceeds the {self.name} channel's {self.frame_bytes_max}"
            )
        _HEADER.pack_into(out, start, size - _LENGTH_BYTES, message.KIND, stream)
        return size

    def encode(self, message: Message, stream: int = 0) -> bytes:
        """One frame by itself."""
        out = bytearray()
        self.append(out, message, stream)
        return bytes(out)


class FrameReader:
    """Cuts a byte stream into frames. `frame_bytes_max` may be raised once the peer has said who it is."""

    def __init__(self, frame_bytes_max: int) -> None:
        """Start with an empty buffer."""
        self.frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._failed = False

    @property
    def buffered(self) -> int:
        """Bytes held that do not make a whole frame yet; below `frame_bytes_max` after `frames()` was exhausted."""
        return len(self._buffer)

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes in; call `frames()` before feeding more."""
        self._buffer += data

    def frames(self) -> Generator[Frame, None, None]:
        """Yield whole frames. Raise `FrameTooLarge` on an announcement above the bound, before its body arrives."""
        if self._failed:
            raise RemoteProtocolError("this stream already broke the protocol")
        buffer, position, available = self._buffer, 0, len(self._buffer)
        try:
            while available - position >= _LENGTH_BYTES:
                length = int.from_bytes(buffer[position : position + _LENGTH_BYTES], "big")
                size = length + _LENGTH_BYTES
                if size > self.frame_bytes_max or size < FRAME_HEADER_BYTES:
                    self._failed = True
                    raise _bad_length(size, self.frame_bytes_max)
                if available - position < size:
                    break
                _, kind, stream = _HEADER.unpack_from(buffer, position)
                frame = Frame(kind, stream, bytes(buffer[position + FRAME_HEADER_BYTES : position + size]))
                position += size
                yield frame
        finally:
            del buffer[:position]


def _bad_length(size: int, bound: int) -> RemoteProtocolError:
    if size > bound:
        return FrameTooLarge(f"peer announced a frame of {size} bytes, {bound} are allowed")
    return MalformedMessage(f"peer announced a frame of {size} bytes, a header alone has {FRAME_HEADER_BYTES}")
