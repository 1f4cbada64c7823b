"""The worker of units that each have a process of their own: the next one is forked while one runs.

It loads functions, so that what they import is there in every process, and runs none. What a unit breaks or leaves, but
for files, is gone before the next unit begins; a crash costs that unit alone. Spec: 12-worker.md, section 2.
"""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from meshd_node.exec import offspring, worker
from meshd_node.exec.control import describe
from meshd_node.exec.unit_process import Outcome, UnitProcess, was_killed
from meshd_node.exec.worker import Load, Worker
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WorkUnit

# A unit that runs for longer holds nobody else up: what waits behind it in this worker is handed back. A fork alone may
# take some ms.
_LONG_S: Final = 0.025
_LOOK_S: Final = 0.005
# Killed processes are gone in ms. What the kernel holds for longer, or forks faster than it is killed, ends with this
# worker.
_END_S: Final = 1.0
_SOON_S: Final = 0.001


class ForkingWorker(Worker):
    """Has each unit run in a process of its own. It has one thread whenever it forks."""

    def __init__(self, sock: socket.socket, progress: "memoryview[int]", load: Load) -> None:
        super().__init__(sock, progress, load)
        self._next: UnitProcess | None = None
        offspring.adopt_orphans()  # else what a unit leaves behind would be the zygote's, and outlive it

    def _watch(self) -> None:
        """Need no second thread: the first one waits, and looks at the clock itself."""

    def _outcome(self, unit: WorkUnit) -> Outcome:
        try:
            process = self._process_for(unit)
        except OSError as error:
            return AttemptStatus.CRASHED, b"", f"a process for the unit could not be made: {error.strerror}"
        process.give(unit)
        with suppress(OSError):  # whoever needs it tries again, and tells
            self._next = self._fork(process)
        outcome = self._heard(process)
        status = process.end()
        self._end_strays()
        if outcome is not None:
            return outcome
        if was_killed(status):
            self._die()
        return AttemptStatus.CRASHED, b"", describe(status, "the unit's process")

    # --- processes ------------------------------------------------------------------------------------------------

    def _process_for(self, unit: WorkUnit) -> UnitProcess:
        """The one that waits; one forked now if there is none, or none that knows the unit's function."""
        if unit.function not in self._functions:
            self._prepare(unit.function)
        process, self._next = self._next, None
        return process or self._fork()

    def _prepare(self, number: int) -> None:
        """Load a function, and have no process wait that was forked without it."""
        if self._next is not None:
            self._next.end()
            self._next = None
        with self._looked_after(), suppress(BaseException):  # the unit's process meets the same error, and tells it
            self._load(number)

    def _fork(self, running: UnitProcess | None = None) -> UnitProcess:
        leave = (self._sock.close,) if running is None else (self._sock.close, running.close)
        return UnitProcess.fork(self._outcome_there, leave)

    def _outcome_there(self, unit: WorkUnit) -> Outcome:
        """What the unit comes to, in its own process."""
        if "numpy" in sys.modules:  # the interpreter gives only its own generator another seed
            sys.modules["numpy"].random.seed()
        return super()._outcome(unit)

    def _end_strays(self) -> None:
        """End what the unit left outside of its group. What has ended is waited for: it counts against our bounds."""
        kept = None if self._next is None else self._next.pid
        deadline = time.monotonic() + _END_S
        while strays := [pid for pid in offspring.children() if pid != kept]:
            if time.monotonic() > deadline:
                self._die()
            for pid in strays:
                offspring.kill(pid)
                os.waitpid(pid, os.WNOHANG)
            time.sleep(_SOON_S)

    def _die(self) -> None:
        """End as the unit did. The warden ends what it left, and knows whether it was a limit that killed it."""
        self._flush()
        os.kill(os.getpid(), signal.SIGKILL)

    # --- while a unit runs ----------------------------------------------------------------------------------------

    def _heard(self, process: UnitProcess) -> Outcome | None:
        """How the unit ends; None if its process does, or can not say it any more."""
        poll = select.poll()
        poll.register(process.sock, select.POLLIN)
        poll.register(process.pidfd, select.POLLIN)
        wait_ms: float | None = _LONG_S * 1e3
        while True:
            ready = dict(poll.poll(wait_ms))
            if not ready:
                wait_ms = None
                poll.register(self._sock, select.POLLIN)
            ended = process.pidfd in ready
            if ended or process.sock.fileno() in ready:
                outcome = process.hear()
                if ended or outcome is not None:
                    return outcome
                if process.hung_up:
                    poll.unregister(process.sock)
            if wait_ms is None and not self._hand_all_back():
                return None

    def _hand_all_back(self) -> bool:
        """Send what was finished, hand back what waits and what has come. False if the daemon hung up."""
        there = self._receive(socket.MSG_DONTWAIT)
        self._hand_back(self._began)
        if there and self._results:
            self._flush()
        return there

    @contextmanager
    def _looked_after(self) -> Iterator[None]:
        """Hand back what waits while this thread is busy for long: importing may take seconds."""
        done = threading.Event()
        looking = threading.Thread(target=self._look_until, args=(done,), name="meshd-watch", daemon=True)
        looking.start()
        try:
            yield
        finally:
            done.set()
            looking.join()

    def _look_until(self, done: threading.Event) -> None:
        while not done.wait(_LOOK_S):
            if time.perf_counter() - self._began > _LONG_S:
                self._hand_back(self._began)
                self._flush()


def main(sock: int, progress: int) -> None:
    """Serve as a worker of pickled functions, each call in a process of its own."""
    worker.main(sock, progress, ForkingWorker)
