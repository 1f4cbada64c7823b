"""The entry of a warden that systemd starts when a daemon connects: it serves that daemon, and ends with it.

Nothing is left of one daemon's work when the next one comes: whoever connects meanwhile waits for a fresh process.
"""

import os
import pwd
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import Final

from meshd_node.activation import inherited
from meshd_node.errors import CageError, ConfigError, MeshdError
from meshd_node.exec import offspring
from meshd_node.exec.cage.cgroups import Cgroups
from meshd_node.exec.cage.makers import makers
from meshd_node.exec.control import ORDERS, Order, Wire
from meshd_node.exec.warden.recipe import Recipe
from meshd_node.exec.warden.server import Warden
from meshd_node.log import log

# The name of the socket (`FileDescriptorName=` of meshd-exec.socket).
WARDEN_SOCKET: Final = "warden"
_PYTHON_WORKER: Final = "meshd_node.exec.worker"
_PEERCRED: Final = struct.Struct("3i")
# What the kernel calls users that are not in a namespace, unless somebody changed its settings.
_UNMAPPED: Final = 65_534
# Whoever made systemd start this process has connected already.
_CONNECTED_S: Final = 5.0
_END_S: Final = 1.0


def main() -> int:
    """Begin: the name of the user whose daemon may ask. Return an exit code (sysexits)."""
    _, user = sys.argv
    try:
        daemon = _daemon_of(user)
    except MeshdError as error:
        log.error("warden_not_begun", reason=str(error), hint=error.hint)
        return error.exit_code
    if daemon is None:
        return 0
    offspring.adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="meshd-cages-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)  # noqa: S103  # cages' users pass through, and see nothing
        try:
            Warden(daemon, makers(), Cgroups.find(), Recipe(Path(folder), _PYTHON_WORKER)).run()
        finally:
            offspring.end_all(_END_S)
    return 0


def accept(listener: socket.socket, uid: int) -> socket.socket | None:
    """The first to connect that is this user; None if nobody is. Others are hung up on, whatever let them connect.

    In a namespace of users (`PrivateUsers=`) all that are not in it look the same. There the mode of the socket's file
    tells the daemon's user from others, and what is refused here is root, and cages: they have this process's user.
    """
    wanted = _as_seen_here(uid)
    listener.settimeout(_CONNECTED_S)
    while True:
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            return None
        peer = _PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
        if peer[1] == wanted:
            sock.setblocking(True)
            return sock
        log.warning("warden_refused", uid=peer[1], wanted=wanted)
        sock.close()


def _daemon_of(user: str) -> Wire[Order] | None:
    listener = inherited(os.environ, WARDEN_SOCKET, socket.SOCK_SEQPACKET)
    if listener is None:
        raise ConfigError("nobody handed over a socket to listen on", "systemctl start meshd-exec.socket")
    with listener:
        sock = accept(listener, _uid_of(user))
    return None if sock is None else Wire(sock, ORDERS)


def _as_seen_here(uid: int, described: Path = Path("/proc/self/uid_map")) -> int:
    """The number that the kernel names a user of the host by, to this process."""
    for line in described.read_text(encoding="ascii").splitlines():
        inside, outside, count = map(int, line.split())
        if outside <= uid < outside + count:
            return uid - outside + inside
    return _UNMAPPED


def _uid_of(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise CageError(f"there is no user {user} to make cages for", "`meshd install` makes it") from error


if __name__ == "__main__":
    sys.exit(main())
