"""One TLS connection that carries frames: everything queued leaves in one run, every read yields all whole frames.

`ssl.SSLObject` on memory BIOs over a bare socket: two to three times as fast as trio's `SSLStream` (measured), because
no task, lock or checkpoint stands between a message and its record.
"""

import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Final, Protocol, cast

import trio

from meshd_node.net.errors import ConnectionLost
from meshd_protocol.framing import Frame, FrameReader, Message
from meshd_protocol.limits import HELLO_BYTES_MAX, KIB, MIB
from meshd_protocol.messages.peer import PEER

# Encrypted at a time: enough for one `send` to fill a socket, little enough to lie in the cache between both.
_ENCRYPT_BYTES: Final = 256 * KIB
# Sent at a time before other tasks have their turn: about 1 ms.
_TURN_BYTES: Final = 2 * MIB
_RECORD_BYTES: Final = 16 * KIB


class Scratch:
    """Buffers that all connections of one pool share: each is filled and emptied without a checkpoint between."""

    def __init__(self) -> None:
        self.received = memoryview(bytearray(MIB))
        self.decrypted = memoryview(bytearray(MIB + 2 * _RECORD_BYTES))


class Source(Protocol):
    """Where a connection finds more to send once its queue is empty."""

    queued_bytes: int

    def pause_s(self) -> float:
        """How long the next frame has to wait; 0 if it may leave now."""
        ...

    def append_next(self, out: bytearray) -> None:
        """Append the next frame; there is one as long as `queued_bytes` is above 0."""
        ...


class Connection:
    """Frames over TLS over one socket. One task reads, one writes what `flush` could not send at once."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, scratch: Scratch, *, server_side: bool) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._scratch = scratch
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._read_bytes = HELLO_BYTES_MAX
        self._cipher = memoryview(b"")
        self._stalled = False
        self._wake = trio.Event()
        # Whoever sends appends encoded frames here.
        self.queue = bytearray()
        self.source: Source | None = None
        self.on_sent: Callable[[], None] = lambda: None
        self.sends = 0
        self._lost: ConnectionLost | None = None

    # --- state --------------------------------------------------------------------------------------------------

    @property
    def queued_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return len(self.queue) + len(self._cipher) + (self.source.queued_bytes if self.source else 0)

    def peer_certificate(self) -> bytes:
        """The peer's own certificate (DER), which TLS has verified."""
        certificate = self._tls.getpeercert(binary_form=True)
        assert certificate is not None, "the handshake is over, and it requires a certificate"
        return certificate

    def peer_uris(self) -> list[str]:
        """The URI names in the peer's certificate, which TLS has verified."""
        names = (self._tls.getpeercert() or {}).get("subjectAltName", ())
        return [str(name[1]) for name in names if name[0] == "URI"]

    def trust(self, *, frame_bytes_max: int, read_bytes: int) -> None:
        """Read larger frames from now on, and more at a time: the peer has said who it is."""
        self._reader.frame_bytes_max = frame_bytes_max
        self._read_bytes = min(read_bytes, len(self._scratch.received))

    # --- TLS ----------------------------------------------------------------------------------------------------

    async def handshake(self, alpn: str) -> None:
        """Shake hands; raise `ConnectionLost` with what TLS says against it. An alert is sent before."""
        while not await self._step():
            await self.drain()
            await self._receive()
        await self.drain()
        # The peer's first frames may have come with the end of its handshake.
        self._decrypt()
        if self._tls.selected_alpn_protocol() != alpn:
            raise ConnectionLost(f"the peer does not speak {alpn}")

    async def _step(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            await self.drain()
            raise ConnectionLost(_tls_text(error)) from error
        return True

    # --- reading ------------------------------------------------------------------------------------------------

    async def fill(self) -> None:
        """Wait for bytes and take in one read's worth. Raise `ConnectionLost` at the stream's end."""
        await self._receive()
        self._decrypt()

    def frames(self) -> Generator[Frame, None, None]:
        """Whole frames that were read; exhaust it before the next `fill`."""
        return self._reader.frames()

    async def next_frame(self) -> Frame:
        """Wait for one frame and leave the others."""
        while True:
            # Closing the generator takes the frame out of the reader's buffer.
            with closing(self._reader.frames()) as frames:
                frame = next(frames, None)
            if frame is not None:
                return frame
            await self.fill()

    async def _receive(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                count = self._socket.recv_into(self._scratch.received, self._read_bytes)
                break
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(f"the connection failed: {error.strerror or error}") from error
        if count == 0:
            raise self._lost or ConnectionLost(
                "the peer hung up" + (" inside a frame" if self._reader.buffered else "")
            )
        self._incoming.write(self._scratch.received[:count])

    def _decrypt(self) -> None:
        plain, filled = self._scratch.decrypted, 0
        try:
            while self._incoming.pending or self._tls.pending():
                # With a buffer it returns a count, which the stubs do not say.
                count = cast("int", self._tls.read(len(plain) - filled, plain[filled:]))
                if count == 0:
                    raise ConnectionLost("the peer hung up")
                filled += count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError as error:
            raise ConnectionLost("the peer hung up") from error
        except ssl.SSLError as error:
            raise ConnectionLost(_tls_text(error)) from error
        self._reader.feed(plain[:filled])

    # --- writing ------------------------------------------------------------------------------------------------

    def append(self, message: Message, stream: int = 0) -> None:
        """Queue one frame; it leaves with the next `flush`."""
        PEER.append(self.queue, message, stream)

    def flush(self) -> None:
        """Hand what is queued to the kernel, without waiting. What it does not take, `write_rest` sends."""
        if not self._stalled and not self._pump():
            self._stalled = True
            self._wake.set()

    async def write_rest(self) -> None:
        """Send whatever `flush` left, whenever it leaves something, until cancelled."""
        while True:
            await self._wake.wait()
            await self.drain()
            self._wake = trio.Event()
            self._stalled = False

    async def drain(self) -> None:
        """Send all that is queued."""
        while not self._pump():
            if self._cipher:
                await trio.lowlevel.wait_writable(self._socket)
            else:
                await trio.sleep(self._pause_s())

    def _pump(self) -> bool:
        """Send for one turn; return whether everything has left."""
        done = self._send_turn()
        self.on_sent()
        return done and not (self.source and self.source.queued_bytes)

    def _pause_s(self) -> float:
        """How long what is queued has to wait, though the socket would take it."""
        return self.source.pause_s() if self.source and self.source.queued_bytes else 0.0

    def _send_turn(self) -> bool:
        turn = _TURN_BYTES
        try:
            while self._cipher or self._encrypt():
                if turn <= 0:
                    return False
                sent = self._socket.send(self._cipher)
                self.sends += 1
                self._cipher = self._cipher[sent:]
                turn -= sent
        except BlockingIOError:
            return False
        except OSError as error:
            # The reader finds the same failure and reports it; here it only means that nothing leaves any more.
            self._lost = ConnectionLost(f"the connection failed: {error.strerror or error}")
            self._discard()
        return True

    def _encrypt(self) -> bool:
        queue = self.queue
        source = self.source
        while source is not None and source.queued_bytes and len(queue) < _ENCRYPT_BYTES and not source.pause_s():
            source.append_next(queue)
        if queue:
            size, done = min(len(queue), _ENCRYPT_BYTES), 0
            with memoryview(queue) as view:
                while done < size:
                    with view[done:size] as rest:
                        done += self._tls.write(rest)
            del queue[:size]
        # TLS itself may have something to say, too: handshakes, key updates.
        self._cipher = memoryview(self._outgoing.read())
        return len(self._cipher) > 0

    def _discard(self) -> None:
        self.queue.clear()
        self.source = None
        self._cipher = memoryview(b"")

    # --- the end ------------------------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Send what is queued, then wait until the peer hangs up too: closing earlier could destroy our last words."""
        try:
            await self.drain()
            self._socket.shutdown(socket.SHUT_WR)
            while True:
                await self._receive()
                self._incoming.read()
        except (OSError, ConnectionLost):
            return

    def close(self) -> None:
        """Close the socket. No task may be using it."""
        self._socket.close()


def _tls_text(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is not valid here: {error.verify_message}"
    words = (error.reason or "failure").replace("_", " ").lower()
    if "ALERT" in (error.reason or ""):
        return f"the peer refused the TLS connection: {words}"
    return f"TLS failed: {words}"
