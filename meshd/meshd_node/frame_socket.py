"""A non-blocking socket between two processes of one machine that carries one channel's frames.

Frames are appended and leave together: `flush` sends inline what the kernel takes, a writer task the rest. No task,
scope or queue is made for a message.
"""

import socket
from collections.abc import Callable
from typing import Final

import trio

from meshd_protocol.framing import Channel, FrameReader, Message

# One read. Larger reads cost the kernel a copy that falls out of the cache; smaller ones cost wake-ups. All sockets of
# the process share the buffer: it is filled and emptied without a checkpoint between. Having `recv` make bytes of this
# size for each read would cost 20 µs in the allocator, more than all else that a read does.
_RECEIVED: Final = memoryview(bytearray(256 * 1024))

Batch = list[tuple[Message, int]]


class FrameSocket:
    """One connected stream socket. Not safe to use after `run` has returned or raised."""

    def __init__(self, sock: socket.socket, channel: Channel) -> None:
        """Take the socket over."""
        sock.setblocking(False)
        self._sock = sock
        self._channel = channel
        self._reader = FrameReader(channel.frame_bytes_max)
        self._out = bytearray()
        self._blocked = trio.Event()
        self._drained = trio.Event()
        self._closed = False

    @property
    def queued_bytes(self) -> int:
        """Bytes that the other side has not taken yet."""
        return len(self._out)

    def send(self, message: Message, stream: int = 0) -> None:
        """Queue a frame; it leaves with the next `flush`. Nothing happens on a closed socket."""
        if not self._closed:
            self._channel.append(self._out, message, stream)

    def flush(self) -> None:
        """Send what the kernel takes now; the writer task of `run` sends the rest. Never blocks, never raises."""
        if self._closed or not self._out:
            return
        try:
            sent = self._sock.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._out.clear()  # the reader learns of it and ends `run`
            return
        del self._out[:sent]
        if self._out:
            self._blocked.set()

    async def run(self, handle: Callable[[Batch], None]) -> None:
        """Read until the end of the stream: one call of `handle` for all frames of one read.

        Raises what the decoder raises (`RemoteProtocolError`) and what `handle` raises.
        """
        fault: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            try:
                await self._read(handle)
            except Exception as error:  # raised below: a nursery would wrap it in a group, which no caller expects
                fault = error
            nursery.cancel_scope.cancel()
        if fault is not None:
            raise fault

    def close(self) -> None:
        """Hang up. What is queued and was not flushed is lost."""
        self._closed = True
        self._out.clear()
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    async def drained(self, below: int) -> None:
        """Wait until fewer than `below` bytes are queued."""
        while len(self._out) >= below:
            self._drained = trio.Event()
            await self._drained.wait()

    def read_now(self, handle: Callable[[Batch], None]) -> None:
        """Take in all that has arrived, without waiting: the other side is gone."""
        try:
            while not self._closed and self._read_once(handle):
                pass
        except BlockingIOError:
            return

    async def _read(self, handle: Callable[[Batch], None]) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                if not self._read_once(handle):
                    return
            except BlockingIOError:
                continue

    def _read_once(self, handle: Callable[[Batch], None]) -> bool:
        """One read, and one call of `handle` for all its frames. False at the end."""
        try:
            count = self._sock.recv_into(_RECEIVED)
        except ConnectionError:
            return False
        if not count:
            return False
        self._reader.feed(_RECEIVED[:count])
        batch = [(self._channel.decode(frame), frame.stream) for frame in self._reader.frames()]
        if batch:
            handle(batch)
        return True

    async def _write(self) -> None:
        while True:
            await self._blocked.wait()
            self._blocked = trio.Event()
            while self._out and not self._closed:
                await trio.lowlevel.wait_writable(self._sock)
                self.flush()
            self._drained.set()
