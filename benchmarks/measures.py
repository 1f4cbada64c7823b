"""What is measured: each measure opens a system by itself, so that none finds what another left behind."""

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from benchmarks.figures import Figure, Sizes
from benchmarks.peers import Entry
from benchmarks.peers.peer import WORKERS, NotOffered, Peer, Place, asked_pids
from benchmarks.processes import pss_bytes
from benchmarks.work import NAP_S, nap, noop

_WARM_UP_UNITS = 500
_WARM_UP_TRIPS = 50
_KILL_AFTER_S = 2.0
_IDLE_S = 2.0
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Measure:
    """`unit` is that of the figure; `run` may raise `NotOffered`."""

    key: str
    title: str
    unit: str
    run: Callable[[Entry, Place, Sizes], Figure]


def prepare(entry: Entry, place: Place, _sizes: Sizes) -> Figure:
    """Open it once, so that what it needs exists and lies in the page cache before anything is measured."""
    with _warm(entry, place):
        return Figure(None)


def submit_one_by_one(entry: Entry, place: Place, sizes: Sizes) -> Figure:
    with _warm(entry, place) as peer:
        peer.results([peer.submit(noop) for _ in range(_WARM_UP_UNITS)])
        begun = time.perf_counter()
        results = peer.results([peer.submit(noop) for _ in range(sizes.units)])
        return Figure(_complete(len(results), sizes.units) / (time.perf_counter() - begun))


def map_in_chunks(entry: Entry, place: Place, sizes: Sizes) -> Figure:
    return _map(entry, place, sizes.calls, sizes.chunk)


def map_as_it_chooses(entry: Entry, place: Place, sizes: Sizes) -> Figure:
    return _map(entry, place, sizes.calls, None)


def round_trip(entry: Entry, place: Place, sizes: Sizes) -> Figure:
    with _warm(entry, place) as peer:
        for _ in range(_WARM_UP_TRIPS):
            peer.result(peer.submit(noop))
        samples = []
        for _ in range(sizes.trips):
            begun = time.perf_counter()
            peer.result(peer.submit(noop))
            samples.append(time.perf_counter() - begun)
        return Figure(statistics.median(samples) * 1_000)


def worker_killed(entry: Entry, place: Place, sizes: Sizes) -> Figure:
    """Units that nap, and one busy worker that gets SIGKILL: how many are answered, how long after the ideal."""
    with _warm(entry, place) as peer:
        victim = peer.worker_pids()[0]
        killer = threading.Timer(_KILL_AFTER_S, os.kill, (victim, signal.SIGKILL))
        begun = time.perf_counter()
        handles = [peer.submit(nap) for _ in range(sizes.naps)]
        killer.start()
        answered = sum(_is_answered(peer, handle) for handle in handles)
        elapsed = time.perf_counter() - begun
        killer.join()
        late = elapsed - sizes.naps * NAP_S / WORKERS
        return Figure(late if answered == sizes.naps else None, answered=answered)


def start_to_ready(entry: Entry, place: Place, _sizes: Sizes) -> Figure:
    with entry.open(place) as peer:
        if peer.ready_s is None:
            raise NotOffered("it does not say when it is ready")
        return Figure(peer.ready_s)


def start_to_first_result(entry: Entry, place: Place, _sizes: Sizes) -> Figure:
    """What is imported when it is opened counts, too: a program waits for it."""
    begun = time.perf_counter()
    with entry.open(place) as peer:
        peer.result(peer.submit(noop))
        return Figure(time.perf_counter() - begun)


def idle_memory(entry: Entry, place: Place, _sizes: Sizes) -> Figure:
    """After both workers ran something and nothing happened for a while. The program itself is a part, not counted."""
    with _warm(entry, place) as peer:
        processes = peer.processes()
        time.sleep(_IDLE_S)
        parts: dict[str, float] = {}
        for name, process in processes:
            if process.is_running():
                parts[name] = parts.get(name, 0.0) + pss_bytes(process) / _MB
        total = sum(parts.values())
        return Figure(total, parts | {"the program": pss_bytes(psutil.Process()) / _MB})


def import_time(entry: Entry, _place: Place, sizes: Sizes) -> Figure:
    """The median of whole interpreters that import it, less that of interpreters that do nothing, in turns."""
    bare, importing = [], []
    for _ in range(sizes.imports):
        bare.append(_interpreter_s("pass"))
        importing.append(_interpreter_s(entry.imports))
    return Figure((statistics.median(importing) - statistics.median(bare)) * 1_000)


MEASURES = {
    measure.key: measure
    for measure in (
        Measure("submit", "no-op units, submitted one by one", "/s", submit_one_by_one),
        Measure("map", "no-op calls by map, in chunks of 1,000", "/s", map_in_chunks),
        Measure("map-auto", "no-op calls by map, chunks as it chooses", "/s", map_as_it_chooses),
        Measure("round-trip", "round trip of one no-op", "ms", round_trip),
        Measure("kill", "units of 50 ms, a worker killed after 2 s: answered; late by", "s", worker_killed),
        Measure("ready", "start to ready", "s", start_to_ready),
        Measure("cold", "start to first result", "s", start_to_first_result),
        Measure("memory", "idle memory besides the program (PSS)", "MB", idle_memory),
        Measure("import", "import", "ms", import_time),
    )
}  # fmt: skip
PREPARE = Measure("prepare", "prepare", "", prepare)


@contextmanager
def _warm(entry: Entry, place: Place) -> Iterator[Peer]:
    """The system with both of its workers up."""
    with entry.open(place) as peer:
        asked_pids(peer)
        yield peer


def _map(entry: Entry, place: Place, calls: int, chunk: int | None) -> Figure:
    with _warm(entry, place) as peer:
        peer.map(noop, calls // 50, chunk)
        begun = time.perf_counter()
        answers = peer.map(noop, calls, chunk)
        return Figure(_complete(answers, calls) / (time.perf_counter() - begun))


def _complete(answers: int, asked: int) -> int:
    if answers != asked:
        raise RuntimeError(f"{answers} answers to {asked} calls")
    return answers


def _is_answered(peer: Peer, handle: object) -> bool:
    try:
        peer.result(handle)
    except Exception:  # each system has its own word for a lost worker
        return False
    return True


def _interpreter_s(statement: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - begun
