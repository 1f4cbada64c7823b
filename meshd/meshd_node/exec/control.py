"""What daemon, warden and zygotes say to each other: one datagram each, over sockets that keep their borders."""

import array
import os
import signal
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from meshd_protocol.records import CageLayer, CageLevel, Runtime

# Shared memory of pool and worker: the serial of the unit that the worker is in.
PROGRESS_BYTES: Final = 8
# The largest word names a folder, 64 GPUs or 32 layers.
WORD_BYTES_MAX: Final = 16 << 10
# A worker's socket, its progress, its gate.
_FDS_MAX: Final = 3
_CREDENTIALS: Final = struct.Struct("3i")
_SPACE: Final = socket.CMSG_SPACE(_FDS_MAX * 4) + socket.CMSG_SPACE(_CREDENTIALS.size)


class Bounds(Struct, frozen=True, array_like=True):
    """What one worker may use; 0 leaves a bound to the node. `scratch_bytes` is of the tenant's whole cage."""

    memory_bytes: int = 0
    scratch_bytes: int = 0
    cpu_milli: int = 0


class Start(Struct, frozen=True, array_like=True, tag=1):
    """Daemon to warden, with the worker's socket and its progress: make worker `number` in a cage of this tenant.

    `environment` is the folder that comes first where modules are looked for, or empty; `gpus` are UUIDs. With
    `own_process` each of its units runs in a process of its own.
    """

    number: int
    tenant: bytes
    runtime: Runtime
    environment: str
    limits: Bounds
    gpus: list[str]
    own_process: bool = False


class Kill(Struct, frozen=True, array_like=True, tag=2):
    """Daemon to warden, warden to zygote: end worker `number` and all that came of it."""

    number: int


class Keep(Struct, frozen=True, array_like=True, tag=3):
    """Daemon to warden: have so many blank cages waiting."""

    blank: int


class Proved(Struct, frozen=True, array_like=True, tag=4):
    """Warden to daemon: what keeps work apart from this node, as found by attacking it."""

    level: CageLevel
    layers: list[CageLayer]
    maker: str


class Ended(Struct, frozen=True, array_like=True, tag=5):
    """Zygote to warden, warden to daemon: worker `number` is gone.

    `status` is what waitpid said of it, or -1 if nobody knows. `reason` is said where the status does not tell.
    """

    number: int
    status: int
    reason: str = ""


class Ready(Struct, frozen=True, array_like=True, tag=6):
    """Zygote to warden: it can fork."""


class Fork(Struct, frozen=True, array_like=True, tag=7):
    """Warden to zygote, with the worker's socket, its progress and perhaps a gate: make worker `number`.

    A worker with a gate says a byte there and waits for another before it runs. `address_space_bytes` is for where
    nothing else bounds memory; 0 is no bound.
    """

    number: int
    runtime: Runtime
    gpus: list[str]
    address_space_bytes: int = 0
    own_process: bool = False


Order: TypeAlias = Start | Kill | Keep
News: TypeAlias = Proved | Ended
CageOrder: TypeAlias = Fork | Kill
CageNews: TypeAlias = Ready | Ended
ORDERS: Final = msgspec.msgpack.Decoder(Order)
NEWS: Final = msgspec.msgpack.Decoder(News)
CAGE_ORDERS: Final = msgspec.msgpack.Decoder(CageOrder)
CAGE_NEWS: Final = msgspec.msgpack.Decoder(CageNews)
_ENCODER: Final = msgspec.msgpack.Encoder()

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Received(Generic[W]):
    """One datagram. Its descriptors are the receiver's to close; `pid` is the sender's, here, where that was asked."""

    word: W
    descriptors: list[int]
    pid: int = 0


class Wire(Generic[W]):
    """One end: sends any word, receives those of one side."""

    def __init__(self, sock: socket.socket, decoder: "msgspec.msgpack.Decoder[W]") -> None:
        self.sock = sock
        self._decoder = decoder

    def fileno(self) -> int:
        """The socket's descriptor, to wait for."""
        return self.sock.fileno()

    def send(self, word: Struct, descriptors: Sequence[int] = (), *, wait: bool = True) -> None:
        """Send one word, with descriptors for the other side. Raise `BlockingIOError` rather than wait."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        flags = socket.MSG_NOSIGNAL | (0 if wait else socket.MSG_DONTWAIT)
        self.sock.sendmsg([_ENCODER.encode(word)], rights, flags)

    def receive(self) -> Received[W] | None:
        """Receive what is there; None at the end. Raise `BlockingIOError`, or `ConnectionError` for what is no word."""
        flags = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        data, ancillary, truncated, _ = self.sock.recvmsg(WORD_BYTES_MAX, _SPACE, flags)
        descriptors, pid = _read_ancillary(ancillary)
        if not data and not descriptors:
            return None
        try:
            if truncated & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ConnectionError("a word that is too long")
            return Received(self._decoder.decode(data), descriptors, pid)
        except (msgspec.DecodeError, ConnectionError) as error:
            close_all(descriptors)
            raise ConnectionError(f"what came is no word: {error}") from error

    def close(self) -> None:
        """Hang up."""
        self.sock.close()


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that were received."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


def describe(status: int, who: str = "the worker") -> str:
    """Say in words how a process ended."""
    if status < 0:
        return f"{who} could not be made"
    if os.WIFSIGNALED(status):
        return f"{who} was killed by {_signal_name(os.WTERMSIG(status))}"
    return f"{who} ended by itself with exit code {os.WEXITSTATUS(status)}"


def _read_ancillary(ancillary: list[tuple[int, int, Any]]) -> tuple[list[int], int]:
    descriptors = array.array("i")
    pid = 0
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid, _, _ = _CREDENTIALS.unpack(payload[: _CREDENTIALS.size])
    return list(descriptors), pid


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
