"""The zygote: the first process of a cage. It has one thread, has loaded what workers need, and forks them in 2 ms.

It runs nobody's code and unpickles nothing. When the warden ends, however it ends, the zygote ends its workers, what
they left running, and itself; should it be killed, its workers die with it.
"""

import gc
import importlib
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn, TypeAlias

from meshd_node.exec import offspring
from meshd_node.exec.control import CAGE_ORDERS, CageOrder, Ended, Fork, Kill, Ready, Received, Wire, close_all
from meshd_protocol.records import Runtime

# Loaded by a worker itself, after the fork: most cages never need them.
_LATE: Final = {
    Runtime.COMMAND: "meshd_node.exec.runtimes.command",
    Runtime.WASM: "meshd_node.exec.runtimes.wasm",
}
_FORKING: Final = "meshd_node.exec.forking"
# What a unit and its worker must have in common.
_OURS: Final = frozenset({"meshd_node", "meshd_protocol"})
# Killed processes are gone in ms; one that the kernel holds is left to it.
_END_S: Final = 1.0
_RM: Final = "/bin/rm"

# Serves on two descriptors, of the worker's socket and its progress, until the daemon hangs up.
WorkerMain: TypeAlias = Callable[[int, int], None]


class Zygote:
    """Forks workers on request, ends them on request, and tells how each ended."""

    def __init__(self, warden: Wire[CageOrder], scratch: str, python_worker: str) -> None:
        self._warden = warden
        self._scratch = scratch
        self._python_main = _main_of(python_worker)
        self._numbers: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._helpers: set[int] = set()

    def run(self) -> None:
        """Serve until the warden hangs up; then end all that came of it."""
        try:
            self._serve()
        finally:
            signal.set_wakeup_fd(-1)
            offspring.end_all(_END_S)

    def _serve(self) -> None:
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        poll.register(self._warden, select.POLLIN)
        self._warden.send(Ready())
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == woken.fileno():
                    _empty(woken)
                    self._reap()
                elif not self._obey():
                    return

    def _obey(self) -> bool:
        try:
            received = self._warden.receive()
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if received is None:
            return False
        match received:
            case Received(Fork() as fork, descriptors):
                self._fork(fork, descriptors)
                close_all(descriptors)
            case Received(Kill(number)):
                if number in self._pids:
                    offspring.kill(self._pids[number])
        return True

    def _fork(self, fork: Fork, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(Ended(fork.number, -1, f"the worker could not be made: {error.strerror}"))
            return
        if pid == 0:
            self._become_worker(fork, descriptors)
        self._numbers[pid] = fork.number
        self._pids[fork.number] = pid

    def _become_worker(self, fork: Fork, descriptors: list[int]) -> NoReturn:
        code = 1
        try:
            zygote = os.getppid()
            offspring.die_with_parent()
            os.setsid()
            signal.set_wakeup_fd(-1)
            for changed in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
                signal.signal(changed, signal.SIG_DFL)
            if os.getppid() == zygote and _pass(descriptors[2:]):
                sock, progress = _keep_only(descriptors[0], descriptors[1])
                self._settle(fork)
                self._worker_main(fork)(sock, progress)
                code = 0
        finally:
            os._exit(code)

    def _settle(self, fork: Fork) -> None:
        """Give a worker a folder of its own, its GPUs and its bound, and let it look at itself in /proc again."""
        home = self._home(fork.number)
        os.mkdir(home, 0o700)
        os.chdir(home)
        os.environ.update(HOME=home, TMPDIR=home, CUDA_VISIBLE_DEVICES=",".join(fork.gpus))
        if fork.address_space_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (fork.address_space_bytes, fork.address_space_bytes))
        offspring.hide(False)

    def _worker_main(self, fork: Fork) -> WorkerMain:
        if fork.runtime is not Runtime.PYTHON:
            return _main_of(_LATE[fork.runtime])
        return _main_of(_FORKING) if fork.own_process else self._python_main

    def _home(self, number: int) -> str:
        return os.path.join(self._scratch, str(number))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                offspring.kill_orphans(self._numbers.keys() | self._helpers)
                return
            self._helpers.discard(pid)
            number = self._numbers.pop(pid, None)
            if number is not None:
                del self._pids[number]
                offspring.kill_group(pid)  # what the worker left in its session
                self._tell(Ended(number, status))
                self._clear(self._home(number))

    def _clear(self, home: str) -> None:
        """Remove a worker's folder; what its units left in there may be much and deep, and takes a process."""
        try:
            os.rmdir(home)
        except FileNotFoundError:
            return
        except OSError:
            with suppress(OSError):
                self._helpers.add(os.posix_spawn(_RM, [_RM, "-rf", "--", home], {}, setsid=True))

    def _tell(self, ended: Ended) -> None:
        with suppress(ConnectionError):  # the warden is gone, as the next look at its socket will show
            self._warden.send(ended)


def main() -> None:
    """Begin: descriptor of the warden's socket, the module of python workers, a folder for modules or nothing."""
    _, descriptor, python_worker, environment = sys.argv
    # Whoever asks the daemon to end may ask all of its processes: it drains, and then the warden hangs up.
    for asked_to_end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked_to_end, signal.SIG_IGN)
    offspring.adopt_orphans()
    offspring.hide(True)
    zygote = Zygote(Wire(socket.socket(fileno=int(descriptor)), CAGE_ORDERS), os.environ["TMPDIR"], python_worker)
    if environment:
        _prefer(environment)
    gc.collect()
    gc.freeze()  # workers share these pages for as long as nobody touches them
    zygote.run()


def _prefer(environment: str) -> None:
    """Let units import from this folder rather than from the node's own packages. Nothing of it is imported here.

    What this process has loaded of a package that is there, too, stays its own: a unit that asks gets the other one.
    """
    sys.dont_write_bytecode = True
    # Behind the standard library, where the packages of any interpreter are.
    places = [index for index, place in enumerate(sys.path) if place.endswith(("/site-packages", "/dist-packages"))]
    sys.path.insert(min(places, default=len(sys.path)), environment)
    provided = {name.partition(".")[0] for name in os.listdir(environment)} - sys.stdlib_module_names - _OURS
    for name in [name for name in sys.modules if name.partition(".")[0] in provided]:
        del sys.modules[name]


def _main_of(module: str) -> WorkerMain:
    main: WorkerMain = importlib.import_module(module).main
    return main


def _pass(gates: list[int]) -> bool:
    """Tell whoever keeps the gate that this process is there, and wait until it is let through."""
    return all(os.write(gate, b"?") == 1 and os.read(gate, 1) == b"!" for gate in gates)


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
