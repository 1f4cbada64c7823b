"""Pools of processes on one machine: the standard library's and loky's."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from benchmarks.peers.peer import WORKERS, ExecutorPeer, Peer, Place


@contextmanager
def process_pool(_place: Place) -> Iterator[Peer]:
    """By its default start method, which is fork on Linux up to Python 3.13."""
    with ProcessPoolExecutor(WORKERS) as executor:
        yield ExecutorPeer(executor)


@contextmanager
def loky_pool(_place: Place) -> Iterator[Peer]:
    import loky

    with loky.ProcessPoolExecutor(WORKERS) as executor:
        yield ExecutorPeer(executor)
