"""Tells systemd how the daemon is: sd_notify(3), a datagram of a few lines. Does nothing without systemd."""

import os
import socket
from collections.abc import Mapping
from typing import Final

import trio

# Of the time after which systemd takes a silent daemon for hung: one word that is late, or lost, is not the end.
_BEATS_IN_TIME: Final = 3


class Notifier:
    """Sends to the socket that systemd named in $NOTIFY_SOCKET. News that can not be delivered is lost."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = _watchdog_s(environ)

    async def beat(self) -> None:
        """Say for as long as this process's loop turns that it does, if systemd listens for that (WatchdogSec=)."""
        while self._watchdog_s:
            self._send("WATCHDOG=1")
            await trio.sleep(self._watchdog_s / _BEATS_IN_TIME)

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


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """After how long a silence systemd ends this process; 0 is never."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if meant and microseconds.isdecimal() else 0.0


def _line(text: str) -> str:
    return " ".join(text.split())
