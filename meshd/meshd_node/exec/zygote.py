"""The zygote: a process with one thread that has loaded what workers need, and forks them in 2 ms.

It runs nobody's code and unpickles nothing. When the daemon ends, however it ends, the zygote ends what its workers
left running, their folders, and itself; should it be killed, its workers die with it.
"""

import ctypes
import gc
import importlib
import os
import select
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Final, NoReturn

from meshd_node.exec import control, worker
from meshd_node.exec.control import Verb, Word
from meshd_node.exec.isolation import give_up_rights, user_of

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
# Killed processes are gone in ms; one that the kernel holds is left to it.
_END_S: Final = 1.0
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Zygote:
    """Forks workers on request, ends them on request, and tells how each ended."""

    def __init__(self, daemon: int, pool: socket.socket, own_users: bool, scratch: str, worker_module: str) -> None:
        self._daemon = daemon
        self._pool = pool
        self._own_users = own_users
        self._scratch = scratch
        self._worker_main = importlib.import_module(worker_module).main
        self._numbers: dict[int, int] = {}
        self._pids: dict[int, int] = {}

    def run(self) -> None:
        """Serve until the daemon hangs up or dies; then end all that came of it."""
        try:
            self._serve()
        finally:
            self._end_all()

    def _serve(self) -> None:
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for wakes in (signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(wakes, lambda *_: None)
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        poll.register(self._pool, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == woken.fileno():
                    _empty(woken)
                    self._reap()
                    if os.getppid() != self._daemon:
                        return
                elif not self._obey():
                    return

    def _obey(self) -> bool:
        try:
            received = control.receive(self._pool)
        except ConnectionError:
            return False
        if received is None:
            return False
        word, descriptors = received
        if word.verb is Verb.FORK:
            self._fork(word.number, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
        elif word.verb is Verb.KILL and word.number in self._pids:
            _kill(self._pids[word.number])
        return True

    def _fork(self, number: int, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError:
            self._tell_end(number, -1)
            return
        if pid == 0:
            self._become_worker(number, *descriptors)
        self._numbers[pid] = number
        self._pids[number] = pid

    def _become_worker(self, number: int, sock: int, progress: int) -> NoReturn:
        code = 1
        try:
            zygote = os.getppid()
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.setsid()
            signal.set_wakeup_fd(-1)
            for changed in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP):
                signal.signal(changed, signal.SIG_DFL)
            home = os.path.join(self._scratch, str(number))
            os.mkdir(home, 0o700)
            uid = user_of(number) if self._own_users else None
            if uid is not None:
                os.chown(home, uid, uid)
            os.chdir(home)
            os.environ.update(HOME=home, TMPDIR=home)
            sock, progress = _keep_only(sock, progress)
            give_up_rights(uid)
            # Changing the user clears the wish to die with the zygote; and it may have died before the wish.
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == zygote:
                self._worker_main(sock, progress)
                code = 0
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                self._sweep()
                return
            number = self._numbers.pop(pid, None)
            if number is not None:
                del self._pids[number]
                _kill_group(pid)  # what the worker left in its session
                self._tell_end(number, status)

    def _tell_end(self, number: int, status: int) -> None:
        with suppress(ConnectionError):  # the daemon is gone, as the next look at its socket will show
            control.send(self._pool, Word(Verb.ENDED, number, status))

    def _sweep(self) -> None:
        """End what workers left outside of their sessions: orphans come to the zygote, as their subreaper."""
        for pid in _children():
            if pid not in self._numbers and _session(pid) not in self._numbers:
                _kill(pid)

    def _end_all(self) -> None:
        signal.set_wakeup_fd(-1)
        self._numbers.clear()
        deadline = time.monotonic() + _END_S
        while time.monotonic() < deadline:
            for pid in _children():
                _kill(pid)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        shutil.rmtree(self._scratch, ignore_errors=True)


def main() -> None:
    """Begin: the daemon's pid, descriptor of its socket, 1 for users of their own, scratch folder, worker's module."""
    _, daemon, descriptor, own_users, scratch, worker_module = sys.argv
    # Whoever asks the daemon to end may ask all of its processes: it drains, and then hangs up.
    for asked_to_end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked_to_end, signal.SIG_IGN)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != int(daemon):
        return
    pool = socket.socket(fileno=int(descriptor))
    worker.preload()
    zygote = Zygote(int(daemon), pool, own_users == "1", scratch, worker_module)
    gc.collect()
    gc.freeze()  # workers share these pages for as long as nobody touches them
    zygote.run()


def _children() -> list[int]:
    """Processes whose parent this is; the kernel gives it those whose own parent ended."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
            return list(map(int, children.read().split()))
    except OSError:
        return []


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _kill(pid: int) -> None:
    """End a child that was not waited for yet, so that its pid is nobody else's, and its group."""
    _kill_group(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _empty(sock: socket.socket) -> None:
    try:
        while sock.recv(4_096):
            pass
    except BlockingIOError:
        return


def _keep_only(sock: int, progress: int) -> tuple[int, int]:
    """Move the two to 3 and 4 and close everything above; standard input and output lead nowhere."""
    null = os.open(os.devnull, os.O_RDWR)
    for target in (0, 1, 2):
        os.dup2(null, target)
    high = max(sock, progress, 4) + 1
    os.dup2(sock, high)
    os.dup2(progress, high + 1)
    os.dup2(high, 3)
    os.dup2(high + 1, 4)
    os.closerange(5, 1 << 16)
    return 3, 4


if __name__ == "__main__":
    main()
