"""The warden, driven as a daemon drives it: whom its cages serve, what bounds them, and what is left when they end."""

import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest

from meshd_node.exec.control import NEWS, PROGRESS_BYTES, Bounds, Ended, Keep, Kill, Proved, Start, Wire, describe
from meshd_protocol import values
from meshd_protocol.calls import CallForm
from meshd_protocol.framing import FrameReader
from meshd_protocol.limits import MIB
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WORKER, LoadFunction, Ready, RunUnits, UnitsRun, WorkResult, WorkUnit
from meshd_protocol.records import CageLevel, Runtime

cloudpickle.register_pickle_by_value(sys.modules[__name__])
PATIENCE_S = 20.0


class Worker:
    """The daemon's end of one worker."""

    def __init__(self) -> None:
        self.sock, self.theirs = socket.socketpair()
        self.sock.settimeout(PATIENCE_S)
        self.memory = os.memfd_create("progress")
        os.ftruncate(self.memory, PROGRESS_BYTES)
        self._reader = FrameReader(WORKER.frame_bytes_max)
        self._serial = 0

    def ready(self) -> "Worker":
        assert isinstance(self._next(), Ready)
        return self

    def begin(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._serial += 1
        payload = bytes([CallForm.CALL]) + pickle.dumps((arguments, {}))
        loading = WORKER.encode(LoadFunction(self._serial, cloudpickle.dumps(function)))
        running = WORKER.encode(RunUnits([WorkUnit(self._serial, self._serial, payload)]))
        self.sock.sendall(loading + running)

    def result(self) -> WorkResult:
        ran = self._next()
        assert isinstance(ran, UnitsRun), ran
        (result,) = ran.results
        return result

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.begin(function, *arguments)
        result = self.result()
        assert result.status is AttemptStatus.RETURNED, result.detail
        return values.decode(result.value)

    def has_hung_up(self) -> bool:
        try:
            return not self.sock.recv(1)
        except ConnectionError:
            return True

    def close(self) -> None:
        self.sock.close()
        self.theirs.close()
        os.close(self.memory)

    def _next(self) -> object:
        while True:
            for frame in self._reader.frames():
                return WORKER.decode(frame)
            received = self.sock.recv(1 << 16)
            assert received, "the worker has hung up"
            self._reader.feed(received)


class Daemon:
    """What a daemon is to its warden."""

    def __init__(self, maker: str, folder: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.folder = folder
        self.wire = Wire(ours, NEWS)
        arguments = [str(theirs.fileno()), str(folder), "meshd_node.exec.worker", maker]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "meshd_node.exec.warden", *arguments],
                pass_fds=[theirs.fileno()],
                env={"PATH": os.defpath, "MESHD_TEST_SECRET": "of the warden"},
            )
        self.workers: dict[int, Worker] = {}
        self.proved: Proved | None = None
        self.ended: dict[int, str] = {}

    def start(self, number: int, tenant: bytes = b"one", **bounds: int) -> Worker:
        worker = self.workers[number] = Worker()
        start = Start(number, tenant, Runtime.PYTHON, "", Bounds(**bounds), [])
        self.wire.send(start, [worker.theirs.fileno(), worker.memory])
        worker.theirs.close()
        return worker

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, (self.proved, self.ended)
            try:
                received = self.wire.receive()
            except BlockingIOError:
                time.sleep(0.002)
                continue
            assert received is not None, "the warden has hung up"
            match received.word:
                case Proved() as proved:
                    self.proved = proved
                case Ended(number, status, reason):
                    assert number not in self.ended, "a worker ends once"
                    self.ended[number] = reason or describe(status)

    def end_of(self, number: int) -> str:
        self.until(lambda: number in self.ended)
        return self.ended[number]

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def cages(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def bounds_memory(self) -> bool:
        """Whether the kernel bounds what a worker uses, not only which addresses it may have."""
        groups = Path("/sys/fs/cgroup").rglob(f"meshd-{self.process.pid}/cage-*/worker-*")
        return any("memory" in each.parts or (each / "memory.max").exists() for each in groups)

    def close(self) -> int:
        self.wire.close()
        for worker in self.workers.values():
            worker.close()
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own folder: cages of another user pass through it."""
    with tempfile.TemporaryDirectory(prefix="meshd-test-") as found:
        Path(found).chmod(0o711)
        yield Path(found, "work")


@pytest.fixture(scope="session")
def best_maker() -> str:
    """The way to make cages that this machine's own proof chose."""
    with tempfile.TemporaryDirectory(prefix="meshd-test-") as found:
        Path(found).chmod(0o711)
        daemon = Daemon("", Path(found, "work"))
        daemon.until(lambda: daemon.proved is not None)
        proved = daemon.proved
        assert daemon.close() == 0
    assert proved is not None
    if proved.level < CageLevel.CONFINED:
        pytest.skip(f"no cage holds for this user on this machine: {proved}")
    return proved.maker


@pytest.fixture(params=["best", "plain"])
def daemon(request: pytest.FixtureRequest, folder: Path) -> Iterator[Daemon]:
    maker = request.getfixturevalue("best_maker") if request.param == "best" else request.param
    daemon = Daemon(maker, folder)
    yield daemon
    if daemon.process.poll() is None:
        assert daemon.close() == 0
    assert not folder.exists()


@pytest.fixture
def caged(best_maker: str, folder: Path) -> Iterator[Daemon]:
    daemon = Daemon(best_maker, folder)
    yield daemon
    assert daemon.close() == 0


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, PATIENCE_S)
    return not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


def leave(name: str) -> None:
    Path(Path.cwd().parent, name).touch()


def sees(name: str) -> bool:
    return Path(Path.cwd().parent, name).exists()


def take(size: int) -> int:
    memory = bytearray(size)
    for page in range(0, size, mmap.PAGESIZE):
        memory[page] = 1
    return len(memory)


def daemonise() -> None:
    """Leave a process behind that has left the session and whose parent is gone."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(100)
        os._exit(0)
    os.wait()


def others() -> list[str]:
    """Processes that are neither this one, nor its zygote, nor the first of all."""
    return sorted(set(filter(str.isdecimal, os.listdir("/proc"))) - {"1", str(os.getppid()), str(os.getpid())})


def test_cages_are_attacked_before_work_runs_in_one(folder: Path) -> None:
    daemon = Daemon("", folder)
    worker = daemon.start(1).ready()
    daemon.until(lambda: daemon.proved is not None)

    assert worker.call(abs, -1) == 1
    assert daemon.proved is not None
    assert daemon.proved.layers
    assert daemon.close() == 0


def test_two_submitters_share_no_cage_and_two_workers_of_one_do(daemon: Daemon) -> None:
    first, second, stranger = daemon.start(1), daemon.start(2), daemon.start(3, b"another")
    first.ready().call(leave, "secret")

    assert second.ready().call(sees, "secret")
    assert not stranger.ready().call(sees, "secret")


def test_a_cage_that_waits_blank_is_given_to_who_comes_and_another_takes_its_place(daemon: Daemon) -> None:
    daemon.wire.send(Keep(1))
    daemon.until(lambda: len(daemon.cages()) == 1)
    (waiting,) = daemon.cages()
    inside = daemon.start(1).ready().call(others)
    daemon.until(lambda: len(daemon.cages()) == 2)

    assert waiting in daemon.cages()
    assert waiting.children(recursive=True), f"the worker is in it, and saw {inside}"


def test_nothing_of_the_warden_reaches_a_cage(daemon: Daemon) -> None:
    worker = daemon.start(1).ready()

    assert "MESHD_TEST_SECRET" not in worker.call(lambda: dict(os.environ))
    opened = worker.call(lambda: {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")})
    assert {each for each in opened if not each.startswith("/proc/")} == {"/dev/null", "/memfd:progress (deleted)"}


def test_more_memory_than_a_worker_has_ends_it_alone_and_the_reason_names_the_limit(daemon: Daemon) -> None:
    greedy = daemon.start(1, memory_bytes=192 * MIB).ready()
    other = daemon.start(2, b"another", memory_bytes=192 * MIB).ready()
    bounded = daemon.bounds_memory()
    greedy.begin(take, 1 << 30)
    if not bounded:
        assert "MemoryError" in greedy.result().detail
        return

    assert daemon.end_of(1) == "the unit used more than its 192 MiB of memory"
    assert other.call(abs, -1) == 1
    assert 2 not in daemon.ended


def test_who_hit_a_limit_comes_back_to_another_cage(daemon: Daemon) -> None:
    greedy = daemon.start(1, memory_bytes=192 * MIB).ready()
    greedy.call(leave, "secret")
    if not daemon.bounds_memory():
        pytest.skip("no cgroup bounds memory for this user: addresses are bounded, and no worker is ended for them")
    greedy.begin(take, 1 << 30)
    daemon.end_of(1)

    assert not daemon.start(2, memory_bytes=192 * MIB).ready().call(sees, "secret")


def test_what_a_worker_left_running_ends_with_it(daemon: Daemon) -> None:
    worker, witness = daemon.start(1).ready(), daemon.start(2).ready()
    before = set(daemon.processes())
    worker.call(daemonise)
    left = [each for each in daemon.processes() if each not in before]
    assert left
    daemon.wire.send(Kill(1))

    assert "SIGKILL" in daemon.end_of(1)
    assert gone(left)
    assert witness.call(abs, -1) == 1


def test_a_caged_worker_sees_no_process_but_those_of_its_cage(caged: Daemon, best_maker: str) -> None:
    if best_maker == "confined":
        pytest.skip("a cage without namespaces shows which processes there are")
    worker = caged.start(1).ready()
    caged.start(2, b"another").ready()

    assert worker.call(others) == []


def test_a_zygote_that_dies_takes_its_cage_along_and_no_other(daemon: Daemon) -> None:
    worker, other = daemon.start(1).ready(), daemon.start(2, b"another").ready()
    cage = min(daemon.cages(), key=psutil.Process.create_time)
    inside = cage.children(recursive=True)
    cage.kill()

    assert daemon.end_of(1)
    assert worker.has_hung_up()
    assert gone(inside)
    assert other.call(abs, -1) == 1
    assert daemon.start(3).ready().call(abs, -2) == 2


def test_when_the_daemon_hangs_up_nothing_is_left(daemon: Daemon) -> None:
    daemon.start(1).ready().call(daemonise)
    processes = daemon.processes()

    assert daemon.close() == 0
    assert gone(processes)


def test_when_the_warden_is_killed_its_cages_die_with_it(daemon: Daemon, folder: Path) -> None:
    worker = daemon.start(1).ready()
    worker.begin(time.sleep, 100)
    processes = daemon.processes()
    daemon.process.send_signal(signal.SIGKILL)

    assert worker.has_hung_up()
    assert gone(processes)
    daemon.close()
    successor = Daemon("plain", folder)
    assert successor.start(1).ready().call(abs, -1) == 1
    assert successor.close() == 0, "and what was left in the folder is in nobody's way"


def test_a_worker_whose_sockets_were_lost_has_ended(daemon: Daemon) -> None:
    daemon.wire.send(Start(1, b"one", Runtime.PYTHON, "", Bounds(), []))

    assert "sockets were lost" in daemon.end_of(1)


def test_who_asks_for_the_end_of_a_worker_that_does_not_exist_hears_nothing(daemon: Daemon) -> None:
    daemon.wire.send(Kill(77))

    assert daemon.start(1).ready().call(abs, -1) == 1
    assert not daemon.ended


def test_garbage_ends_the_warden_not_its_order(daemon: Daemon) -> None:
    daemon.start(1).ready()
    daemon.wire.sock.send(b"\xc1garbage")

    assert daemon.process.wait(PATIENCE_S) == 0
    daemon.close()
