"""Units with a process of their own: what one does is nobody else's, least of all its end."""

import builtins
import ctypes
import os
import signal
import sys
import threading
import time

import cloudpickle
import pytest

from meshd_protocol import values
from meshd_protocol.messages.attempts import AttemptStatus

S = AttemptStatus
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(params=[True], ids=[""])
def own_process(request) -> bool:
    return request.param


def own_socket() -> int:
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                return int(name)
        except OSError:
            continue
    raise AssertionError("a unit's process has a socket")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_each_unit_finds_the_interpreter_as_its_function_was_loaded(host):
    worker = await host.start()

    def leaves_something():
        before = getattr(builtins, "left_by_a_unit", None), os.environ.get("LEFT_BY_A_UNIT")
        builtins.left_by_a_unit = os.environ["LEFT_BY_A_UNIT"] = "something"
        return before

    assert [await host.call(worker, leaves_something) for _ in range(3)] == [(None, None)] * 3


async def test_a_module_is_imported_once_for_all_units_of_a_function(host):
    worker = await host.start()

    class Imported:
        def __reduce__(self):
            return time.monotonic_ns, ()

    def when_loaded(then=Imported()):  # noqa: B008  # to be loaded with the function
        return then

    assert len({await host.call(worker, when_loaded) for _ in range(3)}) == 1


@pytest.mark.parametrize(
    ("way", "words"),
    [
        (lambda: os._exit(7), "the unit's process ended by itself with exit code 7"),
        (lambda: ctypes.string_at(0), "the unit's process was killed by SIGSEGV"),
        (os.abort, "the unit's process was killed by SIGABRT"),
        (lambda: os.write(own_socket(), b"\xff" * 100) and time.sleep(100), "broke into the socket"),
        (lambda: (os.close(own_socket()), os._exit(0)), "exit code 0"),
    ],
    ids=["exit", "segfault", "abort", "garbage", "hangs up"],
)
async def test_a_crash_costs_its_unit_alone(host, way, words):
    worker = await host.start()

    def one(n):
        if n == 1:
            way()
        return os.getppid()

    pid = await host.pid_of(worker)
    for n in range(3):
        (result,) = await host.answers(worker, host.give(worker, one, (n,)))
        if n == 1:
            assert result.status is S.CRASHED
            assert words in result.detail
        else:
            assert values.decode(result.value) == pid, "the same worker"


async def test_what_was_killed_takes_its_worker_along_for_only_the_warden_knows_of_limits(host):
    worker = await host.start()

    def one(n):
        if n:
            os.kill(os.getpid(), signal.SIGKILL)

    before, serial = host.give(worker, one, (0,), (1,))
    running, reason = await host.end_of(worker)

    assert running == serial
    assert "SIGKILL" in reason
    assert host.results[worker][before].status is S.RETURNED


async def test_nothing_that_a_unit_left_running_meets_the_next(host):
    """A child, a daemon of a session of its own whose parent is gone, and a thread that never ends."""
    worker = await host.start()

    def leaves_processes():
        threading.Thread(target=time.sleep, args=(100,)).start()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            pid = os.fork()
            if pid == 0:
                time.sleep(100)
            os.write(writing, str(pid).encode())
            time.sleep(100)
        return os.getpid(), child, int(os.read(reading, 20))

    left = await host.call(worker, leaves_processes)

    assert not await host.call(worker, lambda pids: [pid for pid in pids if is_running(pid)], left)


async def test_a_process_that_holds_the_units_socket_open_does_not_hide_its_end(host):
    worker = await host.start()

    def dies_before_its_child():
        if os.fork() == 0:
            time.sleep(100)
        os._exit(3)

    (result,) = await host.answers(worker, host.give(worker, dies_before_its_child, ()))

    assert (result.status, "exit code 3" in result.detail) == (S.CRASHED, True)


async def test_a_function_that_is_long_to_load_holds_nobody_up(host, tmp_path):
    """What it imports is loaded by the worker, for all its units: others are handed back in the meantime."""
    worker = await host.start()
    end = tmp_path / "end"

    class Slow:
        def __reduce__(self):
            return exec, ("import os, time\nwhile not os.path.exists(path): time.sleep(0.001)", {"path": str(end)})

    def called(slow=Slow()):  # noqa: B008  # to be loaded with the function
        return slow

    long, behind = host.give(worker, called, (), ())
    (result,) = await host.answers(worker, [behind])
    assert result.status is S.HANDED_BACK
    end.touch()
    (result,) = await host.answers(worker, [long])
    assert result.status is S.RETURNED


async def test_a_unit_and_the_process_that_waits_end_with_their_worker(host):
    worker = await host.start()
    pid = await host.pid_of(worker)
    family = [int(each) for each in _children(pid).split()]
    assert family, "one waits for the next unit"
    host.give(worker, time.sleep, (100,))
    host.pool.end(worker, "the test says so")

    await host.until_seen(lambda: not any(map(is_running, [pid, *family])))


def _children(pid: int) -> str:
    with open(f"/proc/{pid}/task/{pid}/children") as listed:
        return listed.read()


async def test_units_do_not_share_a_stream_of_random_numbers(host):
    worker = await host.start()

    assert len({await host.call(worker, lambda: __import__("random").random()) for _ in range(3)}) == 3
