"""What a caged attacker is set on: a private file, a process, sockets that listen. What comes of it is seen here."""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_DISCARD: Final = 9
_WAITING: Final = "import sys; sys.stdin.read()"


@dataclass(frozen=True, slots=True)
class Bait:
    """Everything that is there to be taken."""

    token: str
    secret: Path
    victim: "subprocess.Popen[bytes]"
    # None where there is no network to begin with, as in the unit of the warden.
    tcp: socket.socket | None
    udp: socket.socket | None
    abstract: socket.socket
    path: socket.socket

    def targets(self) -> dict[str, object]:
        """How an attacker finds all of it."""
        return {
            "token": self.token,
            "secret": str(self.secret),
            "victim": self.victim.pid,
            "tcp": _port(self.tcp),
            "udp": _port(self.udp),
            "abstract": self.abstract.getsockname()[1:].decode(),
            "path": self.path.getsockname(),
        }

    def reached(self) -> dict[str, bool]:
        """Which attacks came through, by name, whatever the attacker says."""
        return {
            "kill a process": self.victim.poll() is not None,
            "connect by TCP": self.tcp is not None and _was_reached(self.tcp),
            "send by UDP": self.udp is not None and _was_reached(self.udp),
            "abstract unix socket": _was_reached(self.abstract),
            "unix socket of a path": _was_reached(self.path),
        }


@contextmanager
def laid(folder: Path) -> Iterator[Bait]:
    """Lay it out, as this process's own: a file in `folder`, a process, sockets that anybody may connect to."""
    token = secrets.token_hex(8)
    with ExitStack() as stack:
        yield Bait(
            token,
            _secret(folder / "secret", token),
            stack.enter_context(_victim(token)),
            stack.enter_context(_on_the_network(socket.SOCK_STREAM)),
            stack.enter_context(_on_the_network(socket.SOCK_DGRAM)),
            stack.enter_context(_listening(socket.AF_UNIX, socket.SOCK_STREAM, f"\0meshd-{token}")),
            stack.enter_context(_open_to_all(folder / "socket")),
        )


def _secret(path: Path, token: str) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(token)
    return path


@contextmanager
def _victim(token: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with a secret in its environment, which ends with us."""
    victim = subprocess.Popen(  # noqa: S603  # this interpreter, arguments of ours
        [sys.executable, "-I", "-S", "-c", _WAITING],
        env={"MESHD_SECRET": token},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield victim
    finally:
        victim.kill()
        victim.communicate()


@contextmanager
def _open_to_all(path: Path) -> Iterator[socket.socket]:
    with _listening(socket.AF_UNIX, socket.SOCK_STREAM, str(path)) as sock:
        path.chmod(0o777)  # many daemons' are: Landlock does not close them
        yield sock


@contextmanager
def _on_the_network(kind: int) -> Iterator[socket.socket | None]:
    try:
        sock = _listening(socket.AF_INET, kind, ("127.0.0.1", 0))
    except OSError:
        yield None
        return
    with sock:
        yield sock


def _port(sock: socket.socket | None) -> int:
    return _DISCARD if sock is None else int(sock.getsockname()[1])


def _listening(family: int, kind: int, address: object) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        sock.bind(address)  # type: ignore[arg-type]  # of the family that it belongs to
        if kind == socket.SOCK_STREAM:
            sock.listen()
    except BaseException:
        sock.close()
        raise
    return sock


def _was_reached(sock: socket.socket) -> bool:
    try:
        if sock.type == socket.SOCK_DGRAM:
            sock.recv(1)
        else:
            sock.accept()[0].close()
    except BlockingIOError:
        return False
    return True
