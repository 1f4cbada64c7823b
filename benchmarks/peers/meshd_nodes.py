"""meshd as a user runs it: daemons started by its command line, each in a folder and a process of its own.

Remote is two nodes on loopback, TLS and signatures as ever; the one that submits lends no workers.
"""

import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers.peer import WORKERS, ExecutorPeer, Peer, Place
from benchmarks.processes import below
from meshd_sdk import Mesh

_READY_WITHIN_S = 20.0
_STOP_WITHIN_S = 10.0
_QUIET = {"MESHD_LOG_LEVEL": "warning", "MESHD_DRAIN_S": "1"}


def _is_zygote(process: psutil.Process | None) -> bool:
    """Whether it runs the zygote's module itself, not a program that was told to start it."""
    return process is not None and process.cmdline()[1:4] == ["-P", "-m", "meshd_node.exec.zygote"]


class Daemon:
    """One `meshd up`."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.folder = folder
        environment = _environment(folder) | {"MESHD_CHARTER_SLOTS": str(slots)}
        started = time.perf_counter()
        self.process = subprocess.Popen(_command("up"), env=environment, stdout=subprocess.PIPE)
        self._wait_until_ready()
        self.ready_s = time.perf_counter() - started

    @property
    def socket(self) -> Path:
        return self.folder / "meshd.sock"

    def workers(self) -> list[int]:
        """Those that run units."""
        return [process.pid for name, process in self.processes() if name == "workers"]

    def processes(self) -> list[tuple[str, psutil.Process]]:
        """The daemon; its warden and the cages' first processes; and the zygotes' children, which are workers."""
        named = [("daemon", psutil.Process(self.process.pid))]
        for process in below(self.process.pid):
            named.append(("workers" if _is_zygote(process.parent()) else "zygote", process))
        return named

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            line = self.process.stdout.readline() if selector.select(_READY_WITHIN_S) else b""
        if not line.startswith(b"ready:"):
            self.stop()
            raise RuntimeError(f"`meshd up` in {self.folder} did not become ready: {line!r}")


class MeshdPeer(ExecutorPeer):
    """A mesh whose units run on the daemon `executing`."""

    def __init__(self, mesh: Mesh, daemons: dict[str, Daemon], executing: Daemon) -> None:
        super().__init__(mesh)
        self.ready_s = executing.ready_s
        self._daemons = daemons
        self._executing = executing

    def map(self, function: Callable[[Any], Any], calls: int, chunk: int | None) -> int:
        return sum(1 for _ in self.executor.map(function, range(calls), chunksize=chunk))  # type: ignore[arg-type]

    def worker_pids(self) -> list[int]:
        """From the process tree: what a worker calls its pid need not be what we call it."""
        return self._executing.workers()

    def processes(self) -> list[tuple[str, psutil.Process]]:
        return [
            (f"{owner}{name}", process)
            for owner, daemon in self._daemons.items()
            for name, process in daemon.processes()
        ]


@contextmanager
def local(place: Place) -> Iterator[Peer]:
    """One node, its own two workers."""
    folder = place.scratch / "solo"
    _found(folder)
    with _running(folder, WORKERS) as daemon, Mesh(daemon.socket) as mesh:
        yield MeshdPeer(mesh, {"": daemon}, daemon)


@contextmanager
def remote(place: Place) -> Iterator[Peer]:
    """Two nodes; what is submitted to the first runs on the second, which lends two workers."""
    ours, theirs = place.scratch / "submits", place.scratch / "executes"
    _found(ours)
    with ExitStack() as running:
        submitting = running.enter_context(_running(ours, 0))
        if not theirs.exists():
            _meshd(theirs, "join", _meshd(ours, "invite"), "--listen", free_address(), "--node-name", "executes")
        executing = running.enter_context(_running(theirs, WORKERS))
        mesh = running.enter_context(Mesh(submitting.socket))
        _wait_for_each_other(mesh)
        yield MeshdPeer(mesh, {"submitting ": submitting, "executing ": executing}, executing)


@contextmanager
def _running(folder: Path, slots: int) -> Iterator[Daemon]:
    daemon = Daemon(folder, slots)
    try:
        yield daemon
    finally:
        daemon.stop()


def _found(folder: Path) -> None:
    if not folder.exists():
        _meshd(folder, "init", "--name", "bench", "--node-name", folder.name, "--listen", free_address())


def _wait_for_each_other(mesh: Mesh) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while sum(peer["state"] == "alive" and peer["granted"] is not None for peer in mesh.peers()) < 2:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the two nodes do not see each other after {_READY_WITHIN_S:.0f} s")
        time.sleep(0.01)


def _meshd(folder: Path, *arguments: str) -> str:
    """Run one verb; return what it printed on standard output."""
    done = subprocess.run(
        _command(*arguments),
        env=_environment(folder),
        capture_output=True,
        text=True,
        timeout=_READY_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"`meshd {arguments[0]}` ended with code {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "meshd_node", *arguments]


def _environment(folder: Path) -> dict[str, str]:
    """Ours without settings of meshd that happen to be set, and those of this node."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MESHD_")}
    return inherited | _QUIET | {"MESHD_DIR": str(folder)}


def free_address() -> str:
    """A port that is free now: a token names the port, so it can not be left to the daemon."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
