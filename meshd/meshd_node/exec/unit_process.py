"""A process for one unit: forked ahead, given the unit over a socket, ended with all of its group once it answered."""

import os
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn, Self, TypeAlias

from meshd_node.exec import offspring
from meshd_protocol.limits import TRACEBACK_CHARS_MAX, UNIT_BYTES_MAX
from meshd_protocol.messages.attempts import RESULTS, AttemptStatus
from meshd_protocol.messages.worker import WorkUnit

# How a unit ended: `value` and `detail` are as in a `WorkResult`.
Outcome: TypeAlias = tuple[AttemptStatus, bytes, str]

# Serial, function, length of the payload that follows.
_UNIT: Final = struct.Struct("<QIQ")
# Status, lengths of the value and of the text that follow.
_OUTCOME: Final = struct.Struct("<BQQ")
# A character of a traceback has up to four bytes.
_DETAIL_BYTES_MAX: Final = 4 * TRACEBACK_CHARS_MAX
_READ_BYTES: Final = 1 << 20


class UnitProcess:
    """The worker's side of such a process. It waits, idle, until it is given its unit."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.sock = sock
        # Readable when the process has ended, which its socket does not tell: what it left may hold that open.
        self.pidfd = os.pidfd_open(pid)
        self.hung_up = False
        self._heard = bytearray()

    @classmethod
    def fork(cls, run: Callable[[WorkUnit], Outcome], leave: Sequence[Callable[[], None]]) -> Self:
        """Fork one that will `run` its unit; first it leaves what is the worker's alone. Raise `OSError`."""
        ours, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            _live(theirs, run, (ours.close, *leave))
        theirs.close()
        return cls(pid, ours)

    def give(self, unit: WorkUnit) -> None:
        """Give it its unit. One that has died in the meantime is found out by whoever waits for it."""
        with suppress(ConnectionError):
            self.sock.sendall(_UNIT.pack(unit.serial, unit.function, len(unit.payload)) + unit.payload)

    def hear(self) -> Outcome | None:
        """Take all that it has said; its unit's end, once that is complete. Once it `hung_up`, nothing more comes."""
        outcome = None
        while outcome is None and not self.hung_up:
            try:
                data = self.sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except ConnectionError:
                data = b""
            self.hung_up = not data
            self._heard += data
            outcome = self._outcome()
        return outcome

    def end(self) -> int:
        """End it and its group, and return what waitpid says of it."""
        offspring.kill(self.pid)
        _, status = os.waitpid(self.pid, 0)
        self.close()
        return status

    def close(self) -> None:
        """Let go of it, but for the process itself."""
        self.sock.close()
        os.close(self.pidfd)

    def _outcome(self) -> Outcome | None:
        heard = self._heard
        if len(heard) < _OUTCOME.size:
            return None
        status, value, detail = _OUTCOME.unpack_from(heard)
        if status not in RESULTS or value > UNIT_BYTES_MAX or detail > _DETAIL_BYTES_MAX:
            return AttemptStatus.CRASHED, b"", "the unit's code broke into the socket of its own process"
        middle, end = _OUTCOME.size + value, _OUTCOME.size + value + detail
        if len(heard) < end:
            return None
        text = heard[middle:end].decode("utf-8", "replace")[:TRACEBACK_CHARS_MAX]
        return AttemptStatus(status), bytes(heard[_OUTCOME.size : middle]), text


def _live(sock: socket.socket, run: Callable[[WorkUnit], Outcome], leave: Sequence[Callable[[], None]]) -> NoReturn:
    """Wait for one unit, run it, say how it ended, end."""
    code = 1
    try:
        pid = os.getpid()
        offspring.die_with_parent()
        os.setsid()
        for close in leave:
            close()
        unit = _receive(sock)
        if unit is not None:
            status, value, detail = run(unit)
            if os.getpid() == pid:  # else the unit forked, and this is its child, which has no business here
                text = detail.encode()
                sock.sendall(_OUTCOME.pack(status, len(value), len(text)) + value + text)
        code = 0
    finally:
        os._exit(code)


def _receive(sock: socket.socket) -> WorkUnit | None:
    head = sock.recv(_UNIT.size, socket.MSG_WAITALL)
    if len(head) < _UNIT.size:
        return None  # the worker is gone
    serial, function, length = _UNIT.unpack(head)
    payload = sock.recv(length, socket.MSG_WAITALL) if length else b""
    return WorkUnit(serial, function, payload) if len(payload) == length else None


def was_killed(status: int) -> bool:
    """Whether SIGKILL ended it: by itself, or because it used more memory than there is, which only others know."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
