"""The connection to the daemon: one socket, one thread that reads it, and streams that share it. Spec: 11-local.md.

A thread that submits while little is in flight sends by itself: handing over to the link's thread costs 120 µs of a
round trip's 250. Everything else is queued and leaves in batches of whatever has come together. A caller does not
read its own result, though it would save an estimated 45 µs of 480: Ctrl-C in the main thread could strike between the
bytes that were read and the futures that they end.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from meshd_protocol import PROTOCOL_VERSION
from meshd_protocol.errors import RemoteProtocolError, UnexpectedMessage
from meshd_protocol.framing import Frame, FrameReader, Message
from meshd_protocol.limits import LOCAL_FRAME_BYTES_MAX
from meshd_protocol.messages.local import LOCAL, ClientHello, Denial, Welcome
from meshd_sdk import lifetime
from meshd_sdk.errors import MeshClosed, MeshError, MeshLost, MeshRefused, MeshUnavailable
from meshd_sdk.futures import MeshFuture
from meshd_sdk.outbox import Cancellation, Closing, Control, Outbox

_CLIENT: Final = "meshd-sdk"
_CONNECT_S: Final = 10.0
_READ_BYTES: Final = 1 << 18
# Arguments of units that have not ended; above it submitting blocks. The daemon refuses a user's jobs at 1 GiB.
_WAITING_BYTES_MAX: Final = 1 << 29
# With fewer units in flight, a submitter sends by itself. A burst beyond it goes through the thread, in batches.
_INLINE_IN_FLIGHT: Final = 1
# With so many in flight, queued units wait up to a moment until they fill a batch.
_PLENTY: Final = 512
_BATCH: Final = 256
_PATIENCE_MS: Final = 1


class Receiver(Protocol):
    """One stream's end on this side."""

    def receive(self, message: Message) -> None:
        """Take a message of the stream; raise `RemoteProtocolError` for one that makes no sense."""

    @property
    def in_flight(self) -> int:
        """Units that were sent and have not ended."""

    def lose(self, error: MeshError) -> None:
        """No message will come any more."""

    def orphan(self, error: MeshError) -> None:
        """As `lose`, in a fork: locks may be held by threads that do not exist, callbacks are the parent's."""

    def close(self) -> None:
        """Begin to end: the user is done, or the program is."""


class Link:
    """Use `connect`. Streams of a dead link fail; who wants to go on connects another."""

    def __init__(self, path: str, connected: socket.socket) -> None:
        self.path = path
        self._socket = connected
        self._wake_out, self._wake_in = _waker()
        self._events = select.poll()
        self._events.register(self._wake_out, select.POLLIN)
        self._events.register(connected, select.POLLIN)
        self._lock = threading.Lock()  # of the fields below, and of the order of `put`
        self._room = threading.Condition(self._lock)
        self._receivers: dict[int, Receiver] = {}
        self._streams = 0
        self._waiting_bytes = 0
        self._error: MeshError | None = None
        self._closing = False
        self._flushing = threading.Lock()  # of the outbox, but for `put`
        self._outbox = Outbox()
        self._woken = False
        self._patient_until: float | None = None
        self._awaits_room = False
        self._reader = FrameReader(LOCAL_FRAME_BYTES_MAX)
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._thread = threading.Thread(target=self._run, name=f"meshd-link-{path}", daemon=True)
        self._outbox.put(Control(0, ClientHello([PROTOCOL_VERSION], _CLIENT)))

    @classmethod
    def connect(cls, path: str) -> Link:
        """Connect and start the thread; raise `MeshUnavailable` if nobody answers there."""
        link = cls(path, _connect(path))
        lifetime.watch(link)
        try:
            link._thread.start()
        except BaseException as error:
            link.close()
            if not link._thread.is_alive():
                link._end(MeshClosed("its thread could not be started"))
            if isinstance(error, RuntimeError):
                raise MeshClosed("cannot schedule new futures after interpreter shutdown") from error
            raise
        return link

    @property
    def is_open(self) -> bool:
        """Whether new streams may be opened on it."""
        return self._error is None and not self._closing

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller runs in a callback of a future: it must not wait for this link."""
        return threading.current_thread() is self._thread

    def open(self, opening: Message, make: Callable[[int], Receiver]) -> None:
        """Give a new stream its number, its receiver and its first message, which `flush` sends or the first unit."""
        with self._lock:
            if self._error is not None or self._closing:
                raise self._error or MeshClosed("cannot schedule new futures after shutdown")
            self._streams += 1
            number = self._streams
            self._receivers[number] = make(number)
            self._outbox.put(Control(number, opening))

    def unsent_futures(self) -> list[MeshFuture[Any]]:
        """Units of all streams that have not left this process."""
        with self._flushing:
            return self._outbox.unsent_futures()

    def receivers(self) -> list[Receiver]:
        """The streams that still expect something."""
        with self._lock:
            return list(self._receivers.values())

    def release(self, stream: int) -> None:
        """Nothing more is expected on this stream."""
        self._receivers.pop(stream, None)
        if self._closing:
            self.wake()

    def put(self, item: Control | Cancellation | Closing) -> None:
        """Queue something small; `flush` or `wake` sends it."""
        with self._lock:
            if self._error is None:
                self._outbox.put(item)

    def put_unit(self, future: MeshFuture[Any], in_flight: int) -> None:
        """Queue a unit, or send it at once. Blocks, except in callbacks, while too many bytes wait for results."""
        with self._lock:
            if self._waiting_bytes > _WAITING_BYTES_MAX and not self.is_current_thread:
                self._room.wait_for(lambda: self._waiting_bytes <= _WAITING_BYTES_MAX or self._error is not None)
            error = self._error
            if error is None and future.stream.is_closed:  # by another thread, while this one made the unit
                error = MeshClosed("cannot schedule new futures after shutdown")
            if error is None:
                self._outbox.put(future)
                self._waiting_bytes += future.size  # last: what Ctrl-C leaves uncounted can block nobody
        if error is not None:
            future.end_lost(error)
        elif in_flight < _INLINE_IN_FLIGHT:
            self.flush()
        elif not self._woken:
            self.wake()

    def flush(self) -> None:
        """Send what is queued from the calling thread; what the socket does not take is left to the link's own."""
        try:
            with self._flushing:
                self._write()
        except OSError:
            pass  # the link's thread finds the same, and reads first what the daemon had to say
        finally:
            if not self._outbox.is_empty:
                self.wake()

    def free(self, size: int) -> None:
        """Arguments of so many bytes do not wait any more."""
        with self._lock:
            self._waiting_bytes = max(0, self._waiting_bytes - size)
            self._room.notify_all()

    def wake(self) -> None:
        """Have the thread look at the outbox and at the streams."""
        if not self._woken:
            self._woken = True
            try:
                self._wake_in.send(b"\0")
            except OSError:  # full, so it will wake anyway; or closed, so there is nobody to wake
                return

    def close(self) -> None:
        """Let what was begun finish, then hang up. Returns at once, takes no lock: safe in `__del__`."""
        self._closing = True
        self._woken = False
        self.wake()

    def join(self) -> None:
        """Wait until the link is down. In a callback, where that would be forever, return."""
        if not self.is_current_thread:
            self._thread.join()

    def at_exit(self) -> None:
        """Wait for the units that are under way, as the standard library's executors do."""
        self.close()
        self.join()

    def after_fork(self) -> None:
        """The socket and the thread are the parent's: its futures will never be done here."""
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._flushing = threading.Lock()
        self._end(MeshClosed("made before this process was forked: its results go to the parent"), forked=True)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        error: MeshError = MeshClosed("the mesh was shut down")
        try:
            while not self._is_finished():
                self._step()
        except MeshError as lost:
            error = lost
        except RemoteProtocolError as broken:
            error = MeshLost(f"the daemon at {self.path} does not speak this protocol: {broken}")
        except OSError as broken:
            error = MeshLost(f"lost the daemon at {self.path}: {broken.strerror or broken}; is it up? (`meshd up`)")
        except BaseException:
            error = MeshLost(
                "a bug in meshd_sdk ended its thread: its traceback is on standard error, please report it"
            )
            raise
        finally:
            self._end(error)

    def _is_finished(self) -> bool:
        if not self._closing:
            return False
        for receiver in list(self._receivers.values()):
            receiver.close()
        self._flush()
        with self._lock:
            return not self._receivers and self._outbox.is_empty

    def _step(self) -> None:
        if self._outbox.is_blocked is not self._awaits_room:
            self._awaits_room = self._outbox.is_blocked
            self._events.modify(self._socket, select.POLLIN | (select.POLLOUT if self._awaits_room else 0))
        ready = dict(self._events.poll(None if self._patient_until is None else _PATIENCE_MS))
        if self._wake_out.fileno() in ready:
            self._wake_out.recv(1 << 10)
        if ready.get(self._socket.fileno(), 0) & ~select.POLLOUT:
            self._read()
        # Whoever was given a result gets the interpreter only when this thread waits again: after a read that is soon.
        if not self._is_patient():
            self._woken = False
            if not self._outbox.is_empty:
                self._flush()

    def _is_patient(self) -> bool:
        """Whether to let a batch grow for a moment: few units are queued, and the mesh has plenty to do until then.

        Submitters do not wake this thread meanwhile. In a batch of 256 a unit costs half of what it does among 32.
        """
        if not self._has_plenty():
            self._patient_until = None
            return False
        now = time.monotonic()
        if self._patient_until is None:
            self._patient_until = now + _PATIENCE_MS / 1e3
        elif now >= self._patient_until:
            self._patient_until = None
        return self._patient_until is not None

    def _has_plenty(self) -> bool:
        if self._closing or self._outbox.is_blocked or not 0 < self._outbox.queued < _BATCH:
            return False
        return sum(receiver.in_flight for receiver in list(self._receivers.values())) >= _PLENTY

    def _read(self) -> None:
        count = self._socket.recv_into(self._buffer)
        if not count:
            raise MeshLost(f"the daemon at {self.path} hung up; is it up? (`meshd up`)")
        self._reader.feed(self._buffer[:count])
        for frame in self._reader.frames():
            self._dispatch(frame)

    def _dispatch(self, frame: Frame) -> None:
        message = LOCAL.decode(frame)
        if frame.stream == 0:
            match message:
                case Welcome():
                    return
                case Denial(code, reason):
                    raise MeshRefused(f"the daemon at {self.path} refuses: {reason}", code)
                case _:
                    raise UnexpectedMessage(f"a {type(message).__name__} on stream 0")
        if frame.stream > self._streams:
            raise UnexpectedMessage(f"a {type(message).__name__} on stream {frame.stream}, which was never opened")
        receiver = self._receivers.get(frame.stream)
        if receiver is not None:  # else it was released: what comes late is of no interest
            receiver.receive(message)

    def _flush(self) -> None:
        try:
            with self._flushing:
                self._write()
        except OSError:
            while True:  # what the daemon said before it hung up comes first; ends by raising
                self._read()

    def _write(self) -> None:
        """Send as much as the socket takes. Needs the flush lock."""
        while True:
            self._outbox.encode()
            if not self._outbox.is_blocked or not self._outbox.send(self._socket):
                return

    def _end(self, error: MeshError, *, forked: bool = False) -> None:
        with self._lock:
            self._error = error
            receivers, self._receivers = list(self._receivers.values()), {}
            self._waiting_bytes = 0
            self._room.notify_all()
        with self._flushing:
            unsent = self._outbox.drain()
        for item in unsent:
            if isinstance(item, MeshFuture):
                item.orphan(error) if forked else item.end_lost(error)
        for receiver in receivers:
            receiver.orphan(error) if forked else receiver.lose(error)
        for end in (self._socket, self._wake_out, self._wake_in):
            end.close()


def _connect(path: str) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(_CONNECT_S)
        connected.connect(path)
        connected.setblocking(False)
    except BaseException as error:
        connected.close()
        if isinstance(error, OSError):
            raise MeshUnavailable(_advice(path, error)) from error
        raise
    return connected


def _advice(path: str, error: OSError) -> str:
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return f"no daemon listens at {path}: start one with `meshd up`, or set MESHD_SOCKET or MESHD_DIR"
        case PermissionError():
            return f"you may not use the daemon at {path}: ask its operator to add you to the group of its socket"
        case TimeoutError():
            return f"the daemon at {path} does not take connections: it is overloaded or stopped (`meshd status`)"
        case _:
            return f"can not reach a daemon at {path}: {error.strerror or error}"


def _waker() -> tuple[socket.socket, socket.socket]:
    """Not a bare pipe: a closed socket object fails, where a closed descriptor may by then be another file's."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends
