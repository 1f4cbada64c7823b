"""The one piece of memory that a unit shares with the daemon."""

import os
import sys

import cloudpickle
import pytest

from meshd_protocol.messages.attempts import AttemptStatus

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def cut_the_progress_off_and_die() -> None:
    for name in os.listdir("/proc/self/fd"):
        try:
            if "meshd-progress" in os.readlink(f"/proc/self/fd/{name}"):
                os.ftruncate(int(name), 0)
        except OSError:
            pass
    os._exit(1)


@pytest.mark.parametrize("own_process", [False], ids=["inline"])
async def test_a_unit_that_cuts_the_shared_memory_off_does_not_kill_the_daemon(host) -> None:
    """Reading a mapping beyond its file's end is SIGBUS: the daemon died of any unit that wanted it to."""
    worker = await host.start()
    (serial,) = host.give(worker, cut_the_progress_off_and_die, ())

    running, reason = await host.end_of(worker)
    assert running == serial
    assert "exit code 1" in reason


@pytest.mark.parametrize("own_process", [True], ids=["own process"])
async def test_a_unit_with_a_process_of_its_own_ends_that_alone_by_cutting_the_memory_off(host) -> None:
    worker = await host.start()
    (result,) = await host.answers(worker, host.give(worker, cut_the_progress_off_and_die, ()))
    assert result.status is AttemptStatus.CRASHED

    (result,) = await host.answers(worker, host.give(worker, abs, (-1,)))
    assert result.status is AttemptStatus.RETURNED
