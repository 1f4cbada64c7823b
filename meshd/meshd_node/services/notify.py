"""Tells systemd how the daemon is: sd_notify(3), a datagram of a few lines. Does nothing without systemd."""

import socket
from collections.abc import Mapping


class Notifier:
    """Sends to the socket that systemd named in $NOTIFY_SOCKET. News that can not be delivered is lost."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))

    def ready(self, status: str) -> None:
        """The daemon can be used."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """What `systemctl status` shows."""
        self._send(f"STATUS={_line(status)}")

    def stopping(self, status: str) -> None:
        """The daemon drains, and will end."""
        self._send(f"STOPPING=1\nSTATUS={_line(status)}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            # A full queue must not stop the daemon, nor a service manager that went away.
            sock.setblocking(False)
            try:
                sock.sendto(text.encode(), self._address)
            except OSError:
                return


def _address(name: str) -> str:
    """A path, or `@name` for an abstract socket, whose address begins with a zero byte. Others (vsock) are not ours."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _line(text: str) -> str:
    return " ".join(text.split())
