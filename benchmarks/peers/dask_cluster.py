"""Dask distributed on this machine: two workers of one thread, no dashboard; the scheduler is in our process."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from distributed import Client, LocalCluster

from benchmarks.peers.peer import WORKERS, NotOffered, Peer, Place, asked_pids, named_by_workers
from benchmarks.work import call_for_each


class DaskPeer:
    """Futures for single calls, tasks that call for a whole range for many: twice as fast as its bag."""

    ready_s: float | None = None

    def __init__(self, client: Client) -> None:
        self._client = client

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        # Calls of a pure function with the same arguments would be one.
        return self._client.submit(function, *args, pure=False)

    def results(self, handles: list[Any]) -> list[Any]:
        results: list[Any] = self._client.gather(handles)
        return results

    def result(self, handle: Any) -> Any:
        return handle.result()

    def map(self, function: Callable[[Any], Any], calls: int, chunk: int | None) -> int:
        if chunk is None:
            raise NotOffered("the caller chooses the size of chunks")
        ranges = [range(begin, min(begin + chunk, calls)) for begin in range(0, calls, chunk)]
        futures = self._client.map(call_for_each, ranges, function=function, pure=False)
        return sum(len(results) for results in self._client.gather(futures))

    def worker_pids(self) -> list[int]:
        return asked_pids(self)

    def processes(self) -> list[tuple[str, psutil.Process]]:
        return named_by_workers(self.worker_pids())


@contextmanager
def dask_cluster(place: Place) -> Iterator[Peer]:
    with (
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
            local_directory=str(place.scratch / "dask"),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield DaskPeer(client)
