"""`map` in chunks: many calls in one unit, and their results one by one in order."""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any, Final

from meshd_sdk.errors import UnitFailed

# Enough chunks to keep hundreds of slots busy to the end; short enough that one that is lost costs little.
_CHUNKS_AIMED_AT: Final = 256
_CHUNK_MAX: Final = 1_024


def chunked(calls: Iterable[tuple[Any, ...]], size: int | None) -> Iterator[list[tuple[Any, ...]]]:
    """Cut into lists of `size` calls; with None into about 256 of equal size, of at most 1,024 calls each."""
    if size is None:
        calls = calls if isinstance(calls, Sequence) else list(calls)
        size = min(max(1, -(-len(calls) // _CHUNKS_AIMED_AT)), _CHUNK_MAX)
    remaining = iter(calls)
    while chunk := list(islice(remaining, size)):
        yield chunk


def results_in_order(chunks: list[tuple[Future[Any], int]], timeout: float | None) -> Iterator[Any]:
    """Yield what each call of each chunk returned, and let go of it; what is left is cancelled if this ends early.

    `chunks` are futures of lists, each with the length its list must have. `timeout` counts from now, in seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    return _yield_results(chunks, deadline)


def _yield_results(chunks: list[tuple[Future[Any], int]], deadline: float | None) -> Iterator[Any]:
    chunks.reverse()
    try:
        while chunks:
            results = _wait(*chunks[-1], None if deadline is None else deadline - time.monotonic())
            chunks.pop()
            results.reverse()
            while results:
                yield results.pop()
    finally:
        for future, _ in chunks:
            future.cancel()


def _wait(future: Future[Any], length: int, timeout: float | None) -> list[Any]:
    results = future.result(timeout)
    if type(results) is not list or len(results) != length:
        raise UnitFailed(f"a chunk of {length} calls ended with something else than {length} results")
    return results
