"""What the measures ask of a system."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from benchmarks.processes import below
from benchmarks.work import short_nap_and_pid

WORKERS = 2
_TRIES = 50


class NotOffered(Exception):
    """The system has no such facility."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the run lends to a system: a folder that ends with the run."""

    scratch: Path


class Peer(Protocol):
    """A system with two workers that is ready for work."""

    # Seconds from its start until it said that it is ready; nothing where no such word is given.
    ready_s: float | None

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Hand in one call; return what `results` takes."""

    def results(self, handles: list[Any]) -> list[Any]:
        """Wait for all of them, by the way that its documentation names for many; raise what one raised."""

    def result(self, handle: Any) -> Any:
        """Wait for one."""

    def map(self, function: Callable[[Any], Any], calls: int, chunk: int | None) -> int:
        """Call for each of a range, `chunk` calls a unit (`None`: chosen by it); return how many answers came."""

    def worker_pids(self) -> list[int]:
        """The processes that run units now."""

    def processes(self) -> list[tuple[str, psutil.Process]]:
        """All that it started, each with what it is for."""


class ExecutorPeer:
    """A `concurrent.futures.Executor`."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.ready_s: float | None = None

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.executor.submit(function, *args)

    def results(self, handles: list[Any]) -> list[Any]:
        return [handle.result() for handle in handles]

    def result(self, handle: Any) -> Any:
        return handle.result()

    def map(self, function: Callable[[Any], Any], calls: int, chunk: int | None) -> int:
        if chunk is None:
            raise NotOffered("the caller chooses the size of chunks")
        return sum(1 for _ in self.executor.map(function, range(calls), chunksize=chunk))

    def worker_pids(self) -> list[int]:
        return asked_pids(self)

    def processes(self) -> list[tuple[str, psutil.Process]]:
        return named_by_workers(self.worker_pids())


def asked_pids(peer: Peer) -> list[int]:
    """The workers as they name themselves: hand in short naps until each of them has taken one."""
    seen: set[int] = set()
    for _ in range(_TRIES):
        seen.update(peer.results([peer.submit(short_nap_and_pid) for _ in range(2 * WORKERS)]))
        if len(seen) >= WORKERS:
            break
    return sorted(seen)


def named_by_workers(workers: list[int]) -> list[tuple[str, psutil.Process]]:
    """All processes below this one, as workers and what surrounds them."""
    return [("workers" if process.pid in workers else "others", process) for process in below()]
