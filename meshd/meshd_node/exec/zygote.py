"""The zygote: a process with one thread that has loaded what workers need, and forks them in 2 ms.

It runs nobody's code and unpickles nothing. It dies with the daemon, and its workers die with it.
"""

import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
from typing import Final, NoReturn

from meshd_node.exec import control, worker
from meshd_node.exec.control import Verb, Word
from meshd_node.exec.isolation import give_up_rights

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Zygote:
    """Forks workers on request, ends them on request, and tells how each ended."""

    def __init__(self, pool: socket.socket, uid: int | None, scratch: str, worker_module: str) -> None:
        self._pool = pool
        self._uid = uid
        self._scratch = scratch
        self._worker_main = importlib.import_module(worker_module).main
        self._numbers: dict[int, int] = {}
        self._pids: dict[int, int] = {}

    def run(self) -> None:
        """Serve until the daemon hangs up."""
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        poll.register(self._pool, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == woken.fileno():
                    _empty(woken)
                    self._reap()
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
            control.send(self._pool, Word(Verb.ENDED, number, -1))
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
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            home = os.path.join(self._scratch, str(number))
            os.mkdir(home, 0o700)
            if self._uid is not None:
                os.chown(home, self._uid, self._uid)
            os.chdir(home)
            sock, progress = _keep_only(sock, progress)
            give_up_rights(self._uid)
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
                return
            number = self._numbers.pop(pid, None)
            if number is not None:
                del self._pids[number]
                _kill(pid)  # what the worker left behind in its session, as far as it stayed there
                control.send(self._pool, Word(Verb.ENDED, number, status))


def main() -> None:
    """Begin: descriptor of the pool's socket, uid of workers or -1, folder for scratch, worker's module."""
    _, descriptor, uid, scratch, worker_module = sys.argv
    daemon = os.getppid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != daemon:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon drains on Ctrl-C, and then hangs up
    pool = socket.socket(fileno=int(descriptor))
    worker.preload()
    zygote = Zygote(pool, None if uid == "-1" else int(uid), scratch, worker_module)
    gc.collect()
    gc.freeze()  # workers share these pages for as long as nobody touches them
    zygote.run()


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # It has not called setsid yet, or all of its group is gone.
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return


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
