"""Attacks by sockets: to whoever listens on this machine, and to families that reach the kernel."""

import socket
from collections.abc import Callable


def connect(family: int, address: object) -> str:
    """Connect to a server of this machine."""
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        sock.connect(address)  # type: ignore[arg-type]  # of the family that it belongs to
        return "connected"


def send(port: int) -> str:
    """Send a datagram to a server of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", port))
        return "sent"


def families() -> list[tuple[str, Callable[[], str]]]:
    """Opening sockets that a namespace of networks does not hold, or that talk to the kernel, each with its name."""
    names = ("AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG")
    return [(f"socket {name}", _opening(name)) for name in names if hasattr(socket, name)]


def _opening(name: str) -> Callable[[], str]:
    kind = socket.SOCK_SEQPACKET if name == "AF_ALG" else socket.SOCK_STREAM if name == "AF_VSOCK" else socket.SOCK_RAW

    def open_one() -> str:
        socket.socket(getattr(socket, name), kind).close()
        return "opened"

    return open_one
