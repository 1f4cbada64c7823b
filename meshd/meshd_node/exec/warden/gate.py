"""A gate between a worker's fork and its first step: whoever stands there is put into its group before it runs."""

import socket
import struct
from contextlib import suppress
from typing import Final

_CREDENTIALS: Final = struct.Struct("3i")


class Gate:
    """One gate, for one process of a cage. The kernel says who it is, by its number outside of the cage."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.descriptor = theirs.detach()  # to be handed over, and closed by whoever does

    def fileno(self) -> int:
        """To wait for somebody."""
        return self._ours.fileno()

    def who(self) -> int:
        """The process that stands there; 0 if it has ended."""
        try:
            data, ancillary, _, _ = self._ours.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size), socket.MSG_DONTWAIT)
        except OSError:
            return 0
        for level, kind, payload in ancillary:
            if data and (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid, _, _ = _CREDENTIALS.unpack(payload[: _CREDENTIALS.size])
                return int(pid)
        return 0

    def open(self) -> None:
        """Let it pass."""
        with suppress(OSError):
            self._ours.send(b"!", socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Whoever still stands there ends."""
        self._ours.close()
