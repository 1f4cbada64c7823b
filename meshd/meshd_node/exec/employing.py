"""How a daemon comes to have a warden: it starts one as its child, or is given one by the service that runs them."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Final, Protocol

from meshd_node.exec.control import NEWS, News, Wire
from meshd_node.log import log

# All that the warden has of the daemon's environment: cages have less.
_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_END_S: Final = 2.0


class Employed(Protocol):
    """A warden that works for this daemon, until either hangs up."""

    wire: Wire[News]

    def dismiss(self) -> int | None:
        """Hang up, which ends all that it made; return how it ended, where that is known."""
        ...


class WardenOfOurs:
    """A child of this process. It hangs up when it ends and ends when it is hung up on."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        """Start it. The arguments are a folder for scratch space, the module of python workers, a maker or nothing."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # this interpreter, and a module of ours
                [sys.executable, "-P", "-m", "meshd_node.exec.warden", str(theirs.fileno()), *arguments],
                env=_ENVIRONMENT,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
            )
        self.wire: Wire[News] = Wire(ours, NEWS)

    def dismiss(self) -> int:
        """Hang up; one that hangs is killed."""
        self.wire.close()
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class WardenOfService:
    """One that a service manager starts for whoever connects, and that serves nobody else until that hangs up."""

    def __init__(self, path: Path) -> None:
        """Connect. Where nobody listens, the warden has hung up before it began, and is asked for again later."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.wire: Wire[News] = Wire(sock, NEWS)
        try:
            sock.setblocking(False)  # a queue that is full is as good as nobody
            sock.connect(str(path))
        except OSError as error:
            log.error("warden_absent", path=str(path), reason=str(error), hint="systemctl status meshd-exec.socket")

    def dismiss(self) -> None:
        """Hang up. The service manager sees to its end."""
        self.wire.close()
