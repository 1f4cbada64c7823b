"""Bare sockets: listening, connecting, and what the kernel is to watch over."""

import errno
import socket
import sys

import trio

from meshd_node.net.addresses import join_address, split_address
from meshd_node.net.errors import ConnectionLost, ListenFailed

_BACKLOG = 256


def listen(address: str) -> list[socket.socket]:
    """Listen on every address that `HOST:PORT` names; raise `ListenFailed`, in words for whoever chose it."""
    host, port = split_address(address)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(where)
            sock.listen(_BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        why = error.strerror or str(error)
        raise ListenFailed(
            f"can not listen on {address}: {why}", "change [listen] in node.toml, or set MESHD_LISTEN"
        ) from error
    return sockets


def bound_address(sock: socket.socket) -> str:
    """Where a socket listens, with the port that the kernel chose for port 0."""
    host, port = sock.getsockname()[:2]
    return join_address(host, port)


async def connect(address: str, silence_ms: int) -> socket.socket:
    """Connect to the first of an address's hosts that answers; raise `ConnectionLost`."""
    host, port = split_address(address)
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A peer chose this name: one that can not even be written in IDNA is a UnicodeError.
    except (OSError, UnicodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConnectionLost(f"the name {host!r} can not be resolved: {why}") from error
    failures: list[ConnectionLost] = []
    for family, kind, protocol, _, where in found:
        try:
            return await _connect(_new_socket(family, kind, protocol), where, silence_ms)
        except ConnectionLost as error:
            failures.append(error)
    reasons = "; ".join(dict.fromkeys(map(str, failures))) or "it has no address"
    raise ConnectionLost(reasons, refused=bool(failures) and all(failure.refused for failure in failures))


def watch(sock: socket.socket, silence_ms: int) -> None:
    """Let the kernel end a connection whose bytes nobody acknowledges, the bulk one included, which sends no pings."""
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence_ms)


def _new_socket(family: int, kind: int, protocol: int) -> socket.socket:
    try:
        return socket.socket(family, kind, protocol)
    except OSError as error:  # no descriptors are left, or this machine has no IPv6
        raise ConnectionLost(f"no socket can be made: {error.strerror or error}") from error


async def _connect(sock: socket.socket, where: tuple[object, ...], silence_ms: int) -> socket.socket:
    try:
        sock.setblocking(False)
        watch(sock, silence_ms)
        code = sock.connect_ex(where)
        if code == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            text = f"nobody listens at {_text(where)}" if code == errno.ECONNREFUSED else errno.errorcode[code]
            raise ConnectionLost(text, refused=code == errno.ECONNREFUSED)
    except BaseException:
        sock.close()
        raise
    return sock


def _text(where: tuple[object, ...]) -> str:
    return f"{where[0]} port {where[1]}"
