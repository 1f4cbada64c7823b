"""A session with one peer: two lanes, one of them only once something large is sent, and one end. Spec: 08-peer.md."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

import trio

from meshd_node.core.allowance import Allowance
from meshd_node.net.config import NetConfig
from meshd_node.net.connection import Connection
from meshd_node.net.errors import ConnectionLost, PeerClosed
from meshd_node.net.slices import Assembler, Slicer
from meshd_node.net.talk import Talk, weight
from meshd_node.net.throttle import Throttle
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import CloseCode, RemoteProtocolError, UnexpectedMessage
from meshd_protocol.framing import Channel, Frame, Message
from meshd_protocol.limits import (
    CONTROL_BYTES_MAX,
    FRAME_BYTES_MAX,
    FRAME_HEADER_BYTES,
    KIB,
    MESSAGE_BYTES_MAX,
    MIB,
    REASON_CHARS_MAX,
)
from meshd_protocol.messages.membership import SignedRevocation
from meshd_protocol.messages.peer import PEER, Close, Hello, Lane, Ping, Pong, Slice, WantBulk

# Encodes whatever may travel, in one piece; what is too large for a control frame is then cut.
_WHOLE: Final = Channel("peer", [], MESSAGE_BYTES_MAX)
_LINK_MESSAGES: Final = (Hello, Slice, Ping, Pong, Close, WantBulk)
# Weight of a new sample in the smoothed round trip: RFC 6298, section 2.
_RTT_WEIGHT: Final = 1 / 8
# One read brings 21,000 of the smallest frames or 1,700 signatures, half a second of work in which nobody else would be
# heard. A turn takes 512 frames, or one for each 128 bytes of them: 64 KiB.
_TURN_WORK: Final = 512
# A peer that talks is asked for the round trip only in every so many ping intervals.
_MEASURE_EVERY: Final = 12


@dataclass(frozen=True, slots=True)
class End:
    """How a session ended. `code` and `proof` are what we tell the peer, None if there is nobody left to tell."""

    reason: str
    code: CloseCode | None = None
    refused: bool = False
    proof: SignedRevocation | None = None


class Surroundings(Protocol):
    """What a link needs of its pool."""

    config: NetConfig
    talk: Allowance
    throttle: Throttle

    def now(self) -> float:
        """Read the monotonic clock."""
        ...

    def written(self, link: "Link") -> None:
        """Remember that this link has something to flush."""
        ...

    def received(self, link: "Link", batch: list[tuple[Message, int]]) -> None:
        """Hand a batch to the handler, then flush whatever it wrote."""
        ...

    def want_bulk(self, link: "Link") -> None:
        """Dial the bulk connection of a link that we dialled."""
        ...

    def closed_by_peer(self, closed: PeerClosed) -> None:
        """A peer hung up, and said why."""
        ...


class Link:
    """One peer's session. `session` is unique in this process: answers to another session's questions are stale."""

    def __init__(
        self,
        surroundings: Surroundings,
        peer: Certified,
        control: Connection,
        *,
        session: int,
        address: str | None,
        ahead_s: float = 0.0,
    ) -> None:
        """Begin on an established control connection.

        `address` is where we dialled it, None if the peer dialled; `ahead_s` what its hello said of its clock.
        """
        self.peer = peer
        self.session = session
        self.address = address
        self.ahead_s = ahead_s
        self.rtt_s: float | None = None
        self.heard_at = surroundings.now()
        self.scope = trio.CancelScope()
        self.end: End | None = None
        # Whether anything was sent since the pool last put its links in the order of their use.
        self.used = False
        # Whether it carried anything but pings since the pool last looked, and when the pool last saw that it had.
        self.spoken = False
        self.spoken_at = self.heard_at
        self._surroundings = surroundings
        self._control = control
        self._bulk: Connection | None = None
        self._bulk_scope: trio.CancelScope | None = None
        self._bulk_wanted = False
        self._slicer, self._assembler = Slicer(surroundings.throttle), Assembler()
        self._talk = Talk(peer.node, surroundings.talk, surroundings.config)
        self._pinged_at: float | None = None
        self._ping_s = surroundings.config.ping_interval_ms / 1_000
        self._ping_due_at = self.heard_at
        self._dirty = False
        self._room = trio.lowlevel.ParkingLot()
        control.on_sent = self._make_room
        # Exact: what the peer's own rule puts on this lane fits, and nothing else does.
        control.trust(frame_bytes_max=CONTROL_BYTES_MAX, read_bytes=256 * KIB)

    # --- for everybody ------------------------------------------------------------------------------------------

    @property
    def dialled(self) -> bool:
        """Whether we dialled, so that the bulk connection is ours to dial, too."""
        return self.address is not None

    @property
    def open(self) -> bool:
        """Whether sending still makes sense."""
        return self.end is None

    @property
    def queued_bytes(self) -> int:
        """Bytes that the kernel has not taken yet, of both lanes."""
        bulk = self._bulk.queued_bytes if self._bulk else self._slicer.queued_bytes
        return self._control.queued_bytes + bulk

    @property
    def has_bulk(self) -> bool:
        """Whether the bulk connection is there."""
        return self._bulk is not None

    def send(self, message: Message, stream: int = 0, *, bulk: bool = False) -> int:
        """Queue a message, return its bytes; it leaves when the handler returns, or with `Pool.flush`.

        Each lane keeps its order; between the lanes there is none. Above CONTROL_BYTES_MAX a message is on the bulk
        lane in any case, `bulk` puts a smaller one there. Never blocks: who sends much waits for `room` between. What
        is sent after the end is dropped in silence, since `link_down` follows. Raise `LocalProtocolError` for a message
        above MESSAGE_BYTES_MAX.
        """
        if self.end is not None:
            return 0
        queue = self._control.queue
        size = _WHOLE.append(queue, message, stream)
        if bulk or size > CONTROL_BYTES_MAX:
            with memoryview(queue) as view:
                body = bytes(view[len(queue) - size + FRAME_HEADER_BYTES :])
            del queue[len(queue) - size :]
            self._slicer.put(Frame(message.KIND, stream, body))
            self._want_bulk()
        self.used = True
        self._touch()
        return size

    async def room(self) -> None:
        """Wait until little enough is queued (`queue_high_bytes`), or the link has ended."""
        await trio.lowlevel.checkpoint()
        while self.end is None and self.queued_bytes > self._surroundings.config.queue_high_bytes:
            await self._room.park()

    def close(self, code: CloseCode = CloseCode.NORMAL, reason: str = "") -> None:
        """Say why and hang up. Small messages sent before still leave; `link_down` follows from the link's own task."""
        self.finish(End(reason or f"closed here ({code.name})", code))

    # --- for the pool -------------------------------------------------------------------------------------------

    def finish(self, end: End) -> None:
        """End the session once; its tasks notice."""
        if self.end is None:
            self.end = end
            self.scope.cancel()
            if self._bulk_scope is not None:
                self._bulk_scope.cancel()
            self._room.unpark_all()

    def flush(self) -> None:
        """Hand what is queued to the kernel, without waiting. End the link of a peer that has not read for long."""
        self._dirty = False
        self._control.flush()
        if self._bulk is not None:
            self._bulk.flush()
        if self.queued_bytes > self._surroundings.config.queue_bytes_max:
            self.finish(End(f"the peer does not read: {self.queued_bytes} bytes wait for it", CloseCode.TOO_LARGE))

    def ping(self, now: float) -> None:
        """Ask for a sign of life from a peer that gives none, and now and then from any, to measure."""
        if now >= min(self._ping_due_at, self.heard_at + self._ping_s) and self._pinged_at is None:
            self._pinged_at = now
            self._ping_due_at = now + self._ping_s * _MEASURE_EVERY
            self._append(Ping())

    async def run(self) -> End:
        """Read and write the control lane until the session ends; return how."""
        with self.scope:
            await self._run_lane(self._control, Lane.CONTROL)
        assert self.end is not None, "the scope is cancelled by `finish` alone"
        return self.end

    async def say_goodbye(self) -> None:
        """Tell the peer why, behind whatever small messages still wait. It may never read them: bound this."""
        if self.end is not None and self.end.code is not None:
            self._control.append(Close(self.end.code, self.end.reason[:REASON_CHARS_MAX], self.end.proof))
            await self._control.finish()

    async def run_bulk(self, connection: Connection) -> None:
        """Read and write the bulk lane until the session ends. Without it the session ends: something may be lost."""
        assert self._bulk is None, "one bulk connection for each session"
        connection.trust(frame_bytes_max=FRAME_BYTES_MAX, read_bytes=MIB)
        connection.source, connection.on_sent = self._slicer, self._make_room
        with trio.CancelScope() as self._bulk_scope:
            if self.end is None:
                self._bulk = connection
                connection.flush()
                await self._run_lane(connection, Lane.BULK)

    # --- lanes --------------------------------------------------------------------------------------------------

    async def _run_lane(self, connection: Connection, lane: Lane) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.write_rest)
            self.finish(await self._read(connection, lane))

    async def _read(self, connection: Connection, lane: Lane) -> End:
        try:
            while True:
                await self._take(connection, lane)
                await connection.fill()
                self.heard_at = self._surroundings.now()
        except PeerClosed as closed:
            self._surroundings.closed_by_peer(closed)
            return End(str(closed))
        except ConnectionLost as gone:
            return End(str(gone))
        except RemoteProtocolError as fault:
            return End(str(fault), fault.close_code)

    async def _take(self, connection: Connection, lane: Lane) -> None:
        """Handle all whole frames of one read, and let others have their turn between two batches of them.

        A peer that says too much is not read for a while: what it sends from then on waits in its own buffers.
        """
        with closing(connection.frames()) as frames:
            more = True
            while more:
                more = self._take_turn(frames, lane)
                pause_s = self._talk.pause_s(self._surroundings.now())
                if pause_s:
                    await trio.sleep(pause_s)
                    self.heard_at = self._surroundings.now()
                elif more:
                    await trio.lowlevel.checkpoint()

    def _take_turn(self, frames: Iterator[Frame], lane: Lane) -> bool:
        """Handle some frames; whether there may be more. What came before a fault is delivered all the same."""
        batch: list[tuple[Message, int]] = []
        take = self._take_small if lane is Lane.CONTROL else self._take_slice
        fault: RemoteProtocolError | PeerClosed | None = None
        work = 0
        try:
            for frame in frames:
                message = take(PEER.decode(frame), frame.stream)
                if message is not None:
                    batch.append((message, frame.stream))
                self._talk.hear(frame)
                work += weight(frame)
                if work >= _TURN_WORK:
                    break
        except (RemoteProtocolError, PeerClosed) as error:
            fault = error
        self._surroundings.received(self, batch)
        if fault is not None:
            raise fault
        return work >= _TURN_WORK

    def _take_small(self, message: Message, stream: int) -> Message | None:
        if not isinstance(message, _LINK_MESSAGES):
            return message
        match message:
            case Ping():
                # A peer that asks and never reads gets no more answers than fit.
                if self._control.queued_bytes <= self._surroundings.config.queue_high_bytes:
                    self._append(Pong(), stream)
            case Pong():
                self._measure()
            case Close(code, reason, proof):
                raise PeerClosed(code, reason, proof)
            case WantBulk():
                if not self.dialled:
                    raise UnexpectedMessage("the side that dialled asks for a bulk connection: it must dial it")
                self._want_bulk()
            case Hello() | Slice():
                raise UnexpectedMessage(f"a {type(message).__name__} on an established control connection")
            case _:
                assert_never(message)
        return None

    def _take_slice(self, message: Message, stream: int) -> Message | None:
        if not isinstance(message, Slice):
            raise UnexpectedMessage(f"a {type(message).__name__} on the bulk connection")
        frame = self._assembler.add(message, stream)
        if frame is None:
            return None
        self._talk.hear(frame)
        whole = PEER.decode(frame)
        if isinstance(whole, _LINK_MESSAGES):
            raise UnexpectedMessage(f"a {type(whole).__name__} in slices")
        return whole

    def _measure(self) -> None:
        if self._pinged_at is None:
            raise UnexpectedMessage("an answer to a ping that was not sent")
        sample, self._pinged_at = self._surroundings.now() - self._pinged_at, None
        self.rtt_s = sample if self.rtt_s is None else self.rtt_s + (sample - self.rtt_s) * _RTT_WEIGHT

    def _append(self, message: Message, stream: int = 0) -> None:
        self._control.append(message, stream)
        self._touch()

    def _touch(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._surroundings.written(self)

    def _want_bulk(self) -> None:
        if self._bulk is None and not self._bulk_wanted:
            self._bulk_wanted = True
            if self.dialled:
                self._surroundings.want_bulk(self)
            else:
                self._append(WantBulk())

    def _make_room(self) -> None:
        if self._room and self.queued_bytes <= self._surroundings.config.queue_high_bytes:
            self._room.unpark_all()
