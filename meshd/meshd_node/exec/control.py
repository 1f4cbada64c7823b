"""What pool and zygote say to each other: one datagram each, over a socket pair that keeps their borders."""

import array
import os
import signal
import socket
import struct
from enum import IntEnum
from typing import Final, NamedTuple

# Shared memory of pool and worker: the serial of the unit that the worker is in.
PROGRESS_BYTES: Final = 8
_FORMAT: Final = struct.Struct(">BIi")
_FDS_MAX: Final = 2


class Verb(IntEnum):
    """What is wanted, or what happened."""

    FORK = 1  # to the zygote, with the worker's socket and its progress: make worker `number`
    KILL = 2  # to the zygote: end worker `number`
    ENDED = 3  # to the pool: worker `number` is gone; `value` is what waitpid said of it, or -1: it was never made


class Word(NamedTuple):
    """One datagram."""

    verb: Verb
    number: int
    value: int = 0


def send(sock: socket.socket, word: Word, descriptors: tuple[int, ...] = ()) -> None:
    """Send one word, with descriptors for the other side."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([_FORMAT.pack(*word)], rights)


def receive(sock: socket.socket) -> tuple[Word, list[int]] | None:
    """Receive one word and its descriptors; None at the end."""
    data, rights, _, _ = sock.recvmsg(_FORMAT.size, socket.CMSG_SPACE(_FDS_MAX * 4), socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    descriptors = array.array("i")
    for level, kind, payload in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    verb, number, value = _FORMAT.unpack(data)
    return Word(Verb(verb), number, value), list(descriptors)


def describe(status: int) -> str:
    """Say in words how a process ended."""
    if status < 0:
        return "the worker could not be made"
    if os.WIFSIGNALED(status):
        return f"the worker was killed by {_signal_name(os.WTERMSIG(status))}"
    return f"the worker ended by itself with exit code {os.WEXITSTATUS(status)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
