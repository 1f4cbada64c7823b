"""Sockets that systemd listens on for this process and hands over when it starts it: sd_listen_fds(3)."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from meshd_node.errors import ConfigError

_FIRST: Final = 3
# Each of our units is handed one. More than a few are of somebody who writes to our environment.
_COUNT_MAX: Final = 64


def inherited(environ: Mapping[str, str], name: str, kind: socket.SocketKind) -> socket.socket | None:
    """The listening socket of this name (`FileDescriptorName=`), or None where nobody handed one over.

    Once for each name: the socket is the caller's from then on. Raise `ConfigError` for a socket of another kind.
    """
    # What a parent was given is not ours: systemd says to whom it gives.
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    count = environ.get("LISTEN_FDS", "")
    if not count.isdecimal() or int(count) > _COUNT_MAX or name not in names[: int(count)]:
        return None
    descriptor = _FIRST + names.index(name)
    os.set_inheritable(descriptor, False)
    sock = socket.socket(fileno=descriptor)
    if sock.family is not socket.AF_UNIX or sock.type is not kind or not _listens(sock):
        sock.detach()
        raise ConfigError(
            f"systemd handed over a socket {name!r} that is no listening Unix socket of the kind {kind.name}",
            "mend the socket unit: `meshd install` writes it anew",
        )
    return sock


def _listens(sock: socket.socket) -> bool:
    with suppress(OSError):
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    return False
