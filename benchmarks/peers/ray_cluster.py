"""Ray on this machine: two CPUs, no dashboard; its parts talk over loopback alone."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psutil

from benchmarks.peers.peer import WORKERS, NotOffered, Peer, Place, asked_pids
from benchmarks.processes import below

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

import ray
from ray.util.multiprocessing import Pool

_STORE_BYTES = 200 << 20


class RayPeer:
    """Tasks for single calls, its `multiprocessing.Pool` for many."""

    ready_s: float | None = None

    def __init__(self) -> None:
        self._remote = cache(ray.remote)
        self._pool: Any = None

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._remote(function).remote(*args)

    def results(self, handles: list[Any]) -> list[Any]:
        results: list[Any] = ray.get(handles)
        return results

    def result(self, handle: Any) -> Any:
        return ray.get(handle)

    def map(self, function: Callable[[Any], Any], calls: int, chunk: int | None) -> int:
        if chunk is None:
            raise NotOffered("the caller chooses the size of chunks")
        if self._pool is None:
            self._pool = Pool(processes=WORKERS)
        return len(self._pool.map(function, range(calls), chunksize=chunk))

    def worker_pids(self) -> list[int]:
        return asked_pids(self)

    def processes(self) -> list[tuple[str, psutil.Process]]:
        return [(_part(process), process) for process in below()]

    def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()


@contextmanager
def ray_cluster(place: Place) -> Iterator[Peer]:
    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        configure_logging=True,
        logging_level=logging.ERROR,
        log_to_driver=False,
        object_store_memory=_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(place.scratch / "ray"),
    )
    peer = RayPeer()
    try:
        yield peer
    finally:
        peer.close()
        ray.shutdown()


def _part(process: psutil.Process) -> str:
    first = " ".join(process.cmdline()[:1])
    if first.startswith("ray::"):
        return "workers"
    return process.name().replace("_", " ") if "python" not in process.name() else "others"
