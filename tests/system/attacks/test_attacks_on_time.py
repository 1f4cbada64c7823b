"""Attacks on the end of a unit: those that run on when their time is over, and those that leave something behind."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import cloudpickle
import psutil
import pytest

cloudpickle.register_pickle_by_value(sys.modules[__name__])

TIME_S = 0.5
TIME_IS_OVER = "ran for longer than its 0.5 s"


def ignore_signals() -> None:
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue


def sleep() -> None:
    time.sleep(100)


def spin_and_ignore_signals() -> None:
    ignore_signals()
    while True:
        pass


def hold_the_interpreter_in_c() -> None:
    """No thread of Python runs meanwhile: nothing inside could end it."""
    ctypes.PyDLL(None).sleep(100)


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(100)


def stop_its_session() -> None:
    os.killpg(0, signal.SIGSTOP)
    time.sleep(100)


def wait_for_a_child_that_waits() -> None:
    pid = os.fork()
    if pid == 0:
        ignore_signals()
        os.setsid()
        while True:
            time.sleep(100)
    os.waitpid(pid, 0)


def wait_for_a_program() -> None:
    subprocess.run(["/bin/sleep", "100"], check=False)


def hide_in_a_destructor() -> None:
    class Endless:
        def __del__(self) -> None:
            time.sleep(100)

    del Endless().__dict__


def catch_everything() -> None:
    while True:
        try:
            time.sleep(100)
        except BaseException:
            continue


def endless_result() -> object:
    """Time passes while what it returned is encoded, not while it runs."""

    class Endless(dict):  # type: ignore[type-arg]
        def items(self) -> object:
            time.sleep(100)

        __iter__ = keys = items

        def __reduce_ex__(self, _: object) -> object:
            time.sleep(100)

    return Endless(a=1)


ENDLESS = [
    sleep, spin_and_ignore_signals, hold_the_interpreter_in_c, stop_itself, stop_its_session,
    wait_for_a_child_that_waits, wait_for_a_program, hide_in_a_destructor, catch_everything,
]  # fmt: skip


@pytest.mark.parametrize("attack", ENDLESS, ids=lambda attack: attack.__name__)
def test_time_is_bounded_and_the_reason_says_so(arena, verdict, attack) -> None:
    unit = arena.attack(attack, timeout=TIME_S)
    arena.serves()
    reason = arena.failure(unit)

    verdict(TIME_IS_OVER in reason, reason)


def test_a_result_that_takes_for_ever_is_part_of_its_unit(arena, verdict) -> None:
    error = arena.attack(endless_result, timeout=TIME_S).exception(20)

    verdict(TIME_IS_OVER in str(error) or "can not travel as a result" in str(error), error)


# --- what is left -----------------------------------------------------------------------------------------------------


def daemonise(ways: tuple[str, ...]) -> int:
    """Leave a process that has left its parent, and more; its number is another one outside."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        if "session" in ways:
            os.setsid()
        if os.fork() == 0:
            if "group" in ways:
                os.setpgid(0, 0)
            if "deaf" in ways:
                ignore_signals()
                ctypes.CDLL(None).prctl(1, 0)  # not to die with its parent
            os.closerange(5, writing)
            os.write(writing, str(os.getpid()).encode())
            os.close(writing)
            while True:
                time.sleep(100)
        os._exit(0)
    os.close(writing)
    os.wait()
    return int(os.read(reading, 20))


def leave_and_sleep(ways: tuple[str, ...]) -> None:
    daemonise(ways)
    time.sleep(100)


def leave_and_die(ways: tuple[str, ...]) -> None:
    daemonise(ways)
    os._exit(3)


def leave_and_run_a_thread() -> str:
    threading.Thread(target=time.sleep, args=(100,)).start()
    return "left a thread"


WAYS = [(), ("group",), ("session",), ("session", "deaf")]


@pytest.mark.parametrize("ways", WAYS, ids=lambda ways: "-".join(ways) or "orphan")
@pytest.mark.parametrize("attack", [leave_and_sleep, leave_and_die], ids=lambda attack: attack.__name__)
def test_nothing_outlives_the_worker_that_left_it(arena, verdict, lives, attack, ways) -> None:
    arena.serves()
    before = {each.pid for each in arena.lender.processes()}
    unit = arena.attack(attack, ways, timeout=TIME_S)
    seen: set[psutil.Process] = set()
    while not unit.done():
        seen |= set(arena.lender.processes())
        time.sleep(0.02)
    reason = arena.failure(unit)
    left = [each for each in seen if each.pid not in before and not is_of_a_cage(each)]
    arena.until(lambda: not [each for each in left if lives(each)])

    verdict(TIME_IS_OVER in reason or "exit code 3" in reason, reason)


def is_of_a_cage(process: psutil.Process) -> bool:
    """Whether it is what a cage consists of: maker, zygote; workers are forks of these, and look alike."""
    try:
        return not any(each.cmdline()[1:4] == ["-P", "-m", "meshd_node.exec.zygote"] for each in process.parents())
    except psutil.NoSuchProcess:
        return False


def test_a_unit_that_leaves_a_thread_is_answered_and_the_thread_stays_its_submitters(arena, verdict) -> None:
    said = arena.attack(leave_and_run_a_thread).result(20)
    alone = arena.neighbour.submit(threading.active_count).result(20)

    verdict(alone <= 2, f"{said}; the neighbour has {alone}")
