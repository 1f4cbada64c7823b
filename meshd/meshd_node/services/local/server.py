"""The local socket itself: who may connect, and one session for each program."""

import errno
import grp
import os
import socket
import stat
import struct
from collections import Counter
from pathlib import Path
from typing import Final, NoReturn

import trio

from meshd_node.errors import MeshdError
from meshd_node.frame_socket import FrameSocket
from meshd_node.log import log
from meshd_node.services.jobs.service import JobService
from meshd_node.services.local.answers import Answers
from meshd_node.services.local.commands import Commands
from meshd_node.services.local.session import Session
from meshd_node.services.outflow import Outflow
from meshd_protocol.messages.local import LOCAL, Denial, DenialCode

SOCKET_GROUP: Final = "meshd"
# Programs at a time, in all and of one user: each costs a task, a file descriptor and its buffers.
SESSIONS_MAX: Final = 512
SESSIONS_OF_USER_MAX: Final = 128
_BACKLOG: Final = 64
_PEERCRED: Final = struct.Struct("3i")


class SocketUnusable(MeshdError):
    """The local socket can not be made where it should be."""

    exit_code = 73


class SocketTaken(MeshdError):
    """Another daemon listens on the local socket."""

    exit_code = 69


def bind(path: Path) -> socket.socket:
    """Listen at `path`, mode 0660, group `meshd` where it exists. A socket that nobody listens on is replaced."""
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)  # from the first moment no wider than 0660
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise SocketUnusable(
            f"can not create the local socket {path}: {error.strerror or error}",
            "choose another place with MESHD_SOCKET, or a folder that this user may write to",
        ) from error
    finally:
        os.umask(mask)
    _give_to_group(path)
    listener.listen(_BACKLOG)
    return listener


class LocalServer:
    """Accepts programs until cancelled; then takes the socket file away."""

    def __init__(
        self,
        path: Path,
        jobs: JobService,
        answers: Answers,
        commands: Commands,
        outflow: Outflow,
        *,
        listener: socket.socket | None = None,
    ) -> None:
        """A `listener` that somebody else made, and keeps when this ends, takes the place of one at `path`."""
        self._path = path
        self._listener = listener
        self._jobs = jobs
        self._answers = answers
        self._commands = commands
        self._outflow = outflow
        self._sessions: Counter[int] = Counter()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Bind if need be, report started, serve."""
        if self._listener is not None:
            with self._listener:
                await self._listen(self._listener, task_status)
        listener = bind(self._path)
        inode = self._path.stat().st_ino
        try:
            await self._listen(listener, task_status)
        finally:
            listener.close()
            _remove_own(self._path, inode)

    async def _listen(self, listener: socket.socket, task_status: trio.TaskStatus[None]) -> NoReturn:
        listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await self._accept(listener, nursery)

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        await trio.lowlevel.wait_readable(listener)
        try:
            accepted, _ = listener.accept()
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ECONNABORTED):
                return
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
            log.warning("local_accept_failed", reason=str(error))
            await trio.sleep(0.1)  # descriptors are short: let some be closed before the next try
            return
        nursery.start_soon(self._serve, accepted)

    async def _serve(self, sock: socket.socket) -> None:
        wire = FrameSocket(sock, LOCAL)
        _, uid, _ = _PEERCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
        if self._sessions[uid] >= SESSIONS_OF_USER_MAX or self._sessions.total() >= SESSIONS_MAX:
            reason = f"{self._sessions[uid]} programs of user {uid} are connected already: end some"
            wire.send(Denial(DenialCode.TOO_MUCH, reason))
            wire.flush()
            wire.close()
            return
        self._sessions[uid] += 1
        try:
            await Session(wire, uid, self._jobs, self._answers, self._commands, self._outflow).run()
        finally:
            self._sessions[uid] -= 1


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise SocketUnusable(f"can not look at {path}: {error.strerror}", "check the folder's permissions") from error
    if not stat.S_ISSOCK(mode):
        raise SocketUnusable(f"{path} exists and is not a socket", "move it away, or set MESHD_SOCKET")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)  # its daemon was killed
            return
        except OSError:
            pass
    raise SocketTaken(
        f"another daemon listens at {path}", "stop it first, or give this node a folder of its own with MESHD_DIR"
    )


def _give_to_group(path: Path) -> None:
    try:
        os.chown(path, -1, grp.getgrnam(SOCKET_GROUP).gr_gid)
    except (KeyError, PermissionError):
        return  # no such group, or not ours to give: the owner alone may connect


def _remove_own(path: Path, inode: int) -> None:
    try:
        if path.lstat().st_ino == inode:
            path.unlink()
    except FileNotFoundError:
        return
