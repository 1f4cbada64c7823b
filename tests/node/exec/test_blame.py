"""Who is blamed for a worker's death: whatever the worker did to hide it, a unit that it was given."""

import ctypes
import os
import sys
import time
from pathlib import Path

import cloudpickle
import pytest

from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WORKER, UnitsRun, WorkResult

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def say(data: bytes) -> None:
    """Write to the worker's own socket."""
    os.write(3, data)
    time.sleep(30)


def hide_and_die() -> None:
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "meshd-progress" in line:
            ctypes.c_uint64.from_address(int(line.split("-")[0], 16)).value = 0
    os._exit(1)


def answers(serials: list[int], status: AttemptStatus) -> bytes:
    return WORKER.encode(UnitsRun([WorkResult(serial, status, b"") for serial in serials]))


# Where units have processes of their own, none comes to the worker's socket.
inline = pytest.mark.parametrize("own_process", [False], ids=["inline"])


@inline
async def test_a_unit_that_answers_for_itself_what_no_worker_says_is_blamed(host) -> None:
    """It was nobody's fault, and so was given to one worker after the other for ever."""
    worker = await host.start()
    (serial,) = host.give(worker, say, (answers([1], AttemptStatus.TIMED_OUT),))

    running, reason = await host.end_of(worker)
    assert running == serial
    assert "own socket" in reason


@inline
async def test_a_unit_that_answers_twice_at_once_is_blamed_and_neither_answer_counts(host) -> None:
    worker = await host.start()
    (serial,) = host.give(worker, say, (answers([1, 1], AttemptStatus.RETURNED),))

    running, _ = await host.end_of(worker)
    assert running == serial
    assert host.results[worker] == {}


@inline
async def test_a_unit_that_says_that_none_runs_and_dies_is_blamed(host) -> None:
    worker = await host.start()
    (serial,) = host.give(worker, hide_and_die, ())

    running, _ = await host.end_of(worker)
    assert running == serial
