"""Real workers: what units can do to them, and what is left when they end."""

import ctypes
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time

import cloudpickle
import pytest
import trio

from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Tenant
from meshd_protocol import values
from meshd_protocol.calls import CallForm
from meshd_protocol.messages.attempts import AttemptStatus

S = AttemptStatus
cloudpickle.register_pickle_by_value(sys.modules[__name__])
TENANT = Tenant(Submitter(b"n" * 20, 0))
CALL, MAP = bytes([CallForm.CALL]), bytes([CallForm.MAP])


async def gone(pid: int) -> bool:
    """Whether a process ends within ten seconds."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        with trio.move_on_after(10):
            await trio.lowlevel.wait_readable(process)
    finally:
        os.close(process)
    return not alive(pid)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            # A zombie, or one that is being reaped in this very moment.
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_there(path: str) -> bool:
    return os.path.exists(path)


def sleeps(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def own_socket():
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                return int(name)
        except OSError:
            continue
    raise AssertionError("a worker has a socket")


async def test_a_function_is_called_and_its_result_comes_back(host):
    worker = await host.start()

    assert await host.call(worker, lambda a, b: (a, b), 1, "two") == (1, "two")


async def test_a_batch_is_run_in_order_each_unit_answered_once(host):
    worker = await host.start()
    serials = host.give(worker, lambda n: n * n, *[(n,) for n in range(256)])
    results = await host.answers(worker, serials)

    # Where the machine stands still for long, what waits behind a unit is given back.
    assert {result.status for result in results} <= {S.RETURNED, S.HANDED_BACK}
    squares = {n: values.decode(result.value) for n, result in enumerate(results) if result.status is S.RETURNED}
    assert squares == {n: n * n for n in squares}
    assert 0 in squares


async def test_a_mapped_unit_calls_the_function_for_each_item(host):
    worker = await host.start()
    serials = host.give_raw(worker, pickle.dumps(divmod), MAP + pickle.dumps([(7, 2), (9, 4)]))
    (result,) = await host.answers(worker, serials)

    assert values.decode(result.value) == [(3, 1), (2, 1)]


async def test_keyword_arguments_reach_the_function(host):
    worker = await host.start()
    serials = host.give_raw(worker, pickle.dumps(int), CALL + pickle.dumps((("ff",), {"base": 16})))
    (result,) = await host.answers(worker, serials)

    assert values.decode(result.value) == 255


async def test_an_exception_is_an_outcome_with_the_users_own_traceback(host):
    worker = await host.start()

    def fails():
        raise ZeroDivisionError("user's own words")

    (result,) = await host.answers(worker, host.give(worker, fails, ()))

    assert result.status is S.RAISED
    assert "user's own words" in result.detail
    assert "in fails" in result.detail
    assert "exec/worker.py" not in result.detail


async def test_a_result_that_can_not_travel_raises_and_says_so(host):
    worker = await host.start()

    with pytest.raises(Exception, match="lock"):
        await host.call(worker, lambda: __import__("threading").Lock())
    assert await host.call(worker, abs, -1) == 1


async def test_a_function_that_can_not_be_loaded_says_what_to_do(host):
    worker = await host.start()
    (result,) = await host.answers(
        worker, host.give_raw(worker, b"cno_such_module\nf\n.", CALL + pickle.dumps(((), {})))
    )

    assert result.status is S.RAISED
    assert "no_such_module" in result.detail
    assert "register_pickle_by_value" in result.detail


async def test_leaving_and_interrupting_end_the_unit_not_the_worker(host):
    worker = await host.start()

    def leaves():
        sys.exit(3)

    def interrupts():
        raise KeyboardInterrupt

    for function in (leaves, interrupts):
        (result,) = await host.answers(worker, host.give(worker, function, ()))
        assert result.status is S.RAISED
    assert await host.call(worker, abs, -1) == 1


async def test_a_pool_whose_cage_is_off_claims_no_proof(host, capsys):
    """`cage_proved level=none` was what an operator read who had switched cages off."""
    assert host.pool.isolation == "not known to be caged yet"
    await host.start()

    said = capsys.readouterr().err
    assert "cage_off" in said
    assert "cage_proved" not in said
    assert host.pool.isolation.startswith("not caged: `off = true`")


@pytest.mark.parametrize("own_process", [False], ids=["inline"])
@pytest.mark.parametrize(
    ("way", "words"),
    [
        (lambda: os._exit(7), "exit code 7"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
        (lambda: ctypes.string_at(0), "SIGSEGV"),
    ],
    ids=["exit", "kill", "segfault"],
)
async def test_a_death_is_charged_to_the_unit_that_ran(host, way, words):
    worker = await host.start()

    def one(n):
        if n == 2:
            way()
        return n

    serials = host.give(worker, one, *[(n,) for n in range(5)])
    running, reason = await host.end_of(worker)

    assert running == serials[2]
    assert words in reason


async def test_a_worker_that_dies_between_units_charges_nobody(host):
    worker = await host.start()
    pid = await host.pid_of(worker)
    await host.until_seen(lambda: sleeps(pid))  # it says that it is between units just after it has answered
    os.kill(pid, signal.SIGKILL)

    running, reason = await host.end_of(worker)
    assert running is None
    assert "SIGKILL" in reason


def waits_for(path):
    while not os.path.exists(path):
        time.sleep(0.001)


async def test_units_behind_a_long_one_are_handed_back(host, tmp_path):
    worker = await host.start()
    end = tmp_path / "end"
    long, *behind = host.give(worker, waits_for, *[(str(end),)] * 4)
    results = await host.answers(worker, behind)
    later = host.give(worker, waits_for, *[(str(end),)] * 2)
    results += await host.answers(worker, later)

    assert [result.status for result in results] == [S.HANDED_BACK] * 5
    end.touch()
    (result,) = await host.answers(worker, [long])
    assert result.status is S.RETURNED


async def test_what_ended_before_a_long_unit_does_not_wait_for_it(host, tmp_path):
    worker = await host.start()
    end = tmp_path / "end"
    before, _ = host.give(worker, waits_for, (str(tmp_path),), (str(end),))
    (result,) = await host.answers(worker, [before])

    assert result.status is S.RETURNED
    end.touch()


async def test_a_unit_that_forks_is_answered_once(host, own_process):
    worker = await host.start()

    def forks():
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        return os.getpid()

    pids = [await host.call(worker, forks) for _ in range(3)]

    assert len(set(pids)) == (3 if own_process else 1)
    assert not host.ended


@pytest.mark.parametrize("own_process", [False], ids=["inline"])
async def test_garbage_on_the_workers_own_socket_ends_that_worker_alone(host):
    bad, good = await host.start(1), await host.start(2)

    def breaks_in():
        os.write(own_socket(), b"\xff" * 100)
        time.sleep(100)

    host.give(bad, breaks_in, ())
    running, reason = await host.end_of(bad)

    assert running == 1
    assert "socket" in reason
    assert await host.call(good, abs, -1) == 1


@pytest.mark.parametrize("own_process", [False], ids=["inline"])
@pytest.mark.parametrize("forgery", ["not given", "twice", "crashed"])
async def test_an_answer_that_is_not_the_workers_to_give_ends_it(host, forgery):
    worker = await host.start()

    def forges(forgery):
        from meshd_protocol.messages.attempts import AttemptStatus
        from meshd_protocol.messages.worker import WORKER, UnitsRun, WorkResult

        results = {
            "not given": [WorkResult(77, AttemptStatus.RETURNED, b"")],
            "twice": [WorkResult(1, AttemptStatus.RETURNED, b"")] * 2,
            "crashed": [WorkResult(1, AttemptStatus.CRASHED, b"")],
        }
        os.write(own_socket(), WORKER.encode(UnitsRun(results[forgery])))
        time.sleep(100)

    host.give(worker, forges, (forgery,))
    await host.end_of(worker)

    assert worker in host.ended


@pytest.mark.parametrize("own_process", [False], ids=["inline"])
async def test_a_worker_that_hangs_up_is_ended(host):
    worker = await host.start()

    def hangs_up():
        os.close(own_socket())
        time.sleep(100)

    (serial,) = host.give(worker, hangs_up, ())

    running, _ = await host.end_of(worker)
    assert running == serial


async def test_large_arguments_and_results_pass(host):
    worker = await host.start()
    data = b"x" * 10_000_000

    assert await host.call(worker, lambda argument: argument + b"!", data) == data + b"!"


async def test_an_ended_worker_is_gone_and_nothing_is_told_of_it(host):
    worker = await host.start()
    pid = await host.call(worker, os.getpid)
    host.give(worker, time.sleep, (100,))
    host.pool.end(worker, "the test says so")

    assert await gone(pid)
    other = await host.start(2)
    assert await host.call(other, abs, -1) == 1
    assert worker not in host.ended


@pytest.mark.parametrize("own_process", [False], ids=["inline"])
async def test_what_a_unit_leaves_running_ends_with_its_worker(host):
    """A daemon's trick: a process that leaves the session and whose parent is gone."""
    worker = await host.start()

    def leaves_a_process():
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.setsid()
            pid = os.fork()
            if pid:
                os.write(writing, str(pid).encode())
                os._exit(0)
            time.sleep(100)
            os._exit(0)
        os.wait()
        return int(os.read(reading, 20))

    stray = await host.call(worker, leaves_a_process)
    assert alive(stray)
    host.pool.end(worker, "done")

    assert await gone(stray)


async def test_workers_have_an_empty_environment_a_fixed_hash_seed_and_a_place_of_their_own(host):
    worker = await host.start()
    os.environ["MESHD_TEST_SECRET"] = "secret"
    try:
        environment = await host.call(worker, lambda: dict(os.environ))
    finally:
        del os.environ["MESHD_TEST_SECRET"]
    here = await host.call(worker, os.getcwd)
    descriptors = await host.call(worker, lambda: len(os.listdir("/proc/self/fd")))

    assert "MESHD_TEST_SECRET" not in environment
    assert environment["PYTHONHASHSEED"] == "0"
    assert environment["HOME"] == environment["TMPDIR"] == here
    assert is_there(here)
    assert descriptors <= 6, "three standard ones, the socket, and the listing itself"


async def test_workers_do_not_share_a_stream_of_random_numbers(host):
    one, two = await host.start(1), await host.start(2)

    assert await host.call(one, lambda: __import__("random").random()) != await host.call(
        two, lambda: __import__("random").random()
    )


async def test_a_hundred_workers_leave_nothing(new_host):
    async with new_host() as host:
        pids = []
        for number in range(1, 101):
            await host.start(number)
            pids.append(await host.call(number, os.getpid))
            host.pool.end(number, "next")
        here = await host.call(await host.start(200), os.getcwd)
        scratch = os.path.dirname(here)
        await host.until_seen(lambda: os.listdir(scratch) == ["200"])
    assert not any(map(alive, pids))
    assert not is_there(scratch)


async def test_a_pool_that_is_cancelled_leaves_no_process(new_host):
    async with new_host() as host:
        worker = await host.start()
        pid, zygote = await host.call(worker, lambda: (os.getpid(), os.getppid()))
        host.give(worker, time.sleep, (100,))

    assert await gone(pid)
    assert not alive(zygote)


async def test_a_dead_zygote_is_replaced_and_its_workers_are_told_as_ended(host):
    worker = await host.start()
    pid, zygote = await host.call(worker, lambda: (os.getpid(), os.getppid()))
    os.kill(zygote, signal.SIGKILL)
    await host.end_of(worker)

    assert await gone(pid)
    for number in itertools.count(2):
        host.results[number] = {}
        host.pool.start(number, TENANT, (), 0)
        await host.until(lambda number=number: number in host.ready or number in host.ended)
        if number in host.ready:
            break
    assert number <= 3, "while there is no zygote, asking for a worker takes until there is one"
    assert await host.call(number, abs, -1) == 1


_DAEMON = """
import sys, trio, os, time
sys.path.insert(0, {folder!r})
import conftest
async def main():
    host = conftest.Host()
    async with trio.open_nursery() as nursery:
        await nursery.start(host.pool.run)
        worker = await host.start()
        def strays():
            reading, writing = os.pipe()
            if os.fork() == 0:
                os.setsid()
                pid = os.fork()
                if pid:
                    os.write(writing, str(pid).encode())
                    os._exit(0)
                time.sleep(100)
            os.wait()
            return os.getpid(), os.getppid(), int(os.read(reading, 20)), os.getcwd()
        print(*await host.call(worker, strays), flush=True)
        host.give(worker, time.sleep, (100,))
        await trio.sleep_forever()
trio.run(main)
"""


async def test_a_daemon_that_is_killed_takes_all_its_processes_with_it():
    script = _DAEMON.format(folder=os.path.dirname(__file__))
    with subprocess.Popen(  # noqa: ASYNC220  # it only starts
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as daemon:
        *pids, scratch = (await trio.to_thread.run_sync(daemon.stdout.readline)).split()
        daemon.kill()

    for pid in pids:
        assert await gone(int(pid)), "worker, zygote or what a unit left running"
    with trio.fail_after(10):
        while is_there(os.path.dirname(os.path.dirname(scratch))):  # noqa: ASYNC110  # the warden tells nobody
            await trio.sleep(0.002)
