"""Attacks on what drives a worker: its socket, its progress, its zygote, its siblings. Its own units alone suffer."""

import array
import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path

import cloudpickle
import psutil
import pytest

from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WORKER, Ready, RunUnits, UnitsRun, WorkResult, WorkUnit
from meshd_protocol.values import encode

cloudpickle.register_pickle_by_value(sys.modules[__name__])

BROKEN = "broke into the worker's own socket"


def own_socket() -> socket.socket:
    """The worker's end, found as an attacker would."""
    for number in range(3, 64):
        try:
            return socket.socket(fileno=os.dup(number))
        except OSError:
            continue
    raise AssertionError("a worker has a socket")


def say(data: bytes) -> None:
    own_socket().sendall(data)
    time.sleep(30)


def hang_up() -> None:
    own_socket().shutdown(socket.SHUT_RDWR)
    time.sleep(30)


def close_everything() -> None:
    os.closerange(0, 1024)
    time.sleep(30)


def pass_descriptors() -> None:
    """The daemon would run out of them, if it took them."""
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", held))]
    with own_socket() as sock:
        for _ in range(20):
            sock.sendmsg([b"\xff"], rights)
    time.sleep(30)


def answers(serials: range, status: AttemptStatus) -> bytes:
    return WORKER.encode(UnitsRun([WorkResult(serial, status, encode("forged")) for serial in serials]))


# The daemon numbers units from 1 in each worker: of so many, some are nobody's, and some perhaps another's.
SAID = {
    "garbage": b"\xc1garbage" * 100,
    "frame of all memory": b"\xff" * 16,
    "results of others": answers(range(100, 200), AttemptStatus.RETURNED),
    "ends that workers do not say": answers(range(1, 100), AttemptStatus.TIMED_OUT),
    "ready again": WORKER.encode(Ready(1, 0)) * 2,
    "work for the daemon": WORKER.encode(RunUnits([WorkUnit(1, 1, b"")])),
}


def ends_alone(arena, verdict, attack, *arguments) -> None:
    """The attacker's worker ends, its unit's reason says so, and the daemon keeps no descriptor."""
    daemon = psutil.Process(arena.lender.pid)
    before = daemon.num_fds()
    unit = arena.attack(attack, *arguments, timeout=20)
    arena.serves()
    reason = arena.failure(unit)
    arena.until(lambda: daemon.num_fds() <= before + 8)

    verdict(BROKEN in reason, reason)


@pytest.mark.parametrize("words", SAID)
def test_what_a_worker_may_not_say_ends_it_and_the_reason_says_so(arena, verdict, words) -> None:
    ends_alone(arena, verdict, say, SAID[words])


@pytest.mark.parametrize("attack", [hang_up, close_everything, pass_descriptors], ids=lambda attack: attack.__name__)
def test_what_a_worker_may_not_do_to_its_socket_ends_it_and_the_reason_says_so(arena, verdict, attack) -> None:
    ends_alone(arena, verdict, attack)


def test_a_word_that_never_ends_ends_with_the_time_of_its_unit(arena, verdict) -> None:
    frame = WORKER.encode(UnitsRun([WorkResult(1, AttemptStatus.RETURNED, b"x" * (1 << 20))]))
    reason = arena.failure(arena.attack(say, frame[: len(frame) // 2], timeout=0.5))

    verdict("ran for longer than its 0.5 s" in reason, reason)


def lie_about_progress_and_die() -> None:
    """Name every serial that somebody else could have, in the memory that the daemon looks at; then be dead."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "meshd-progress" in line:
            address = int(line.split("-")[0], 16)
            ctypes.c_uint64.from_address(address).value = 2**64 - 1
    os._exit(1)


def test_who_lies_about_what_it_runs_is_blamed_itself(arena, verdict) -> None:
    reason = arena.failure(arena.attack(lie_about_progress_and_die))

    verdict("exit code 1" in reason, reason)


def forge_in_a_fork() -> str:
    """Both return from the unit, and only one is the worker."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return "parent" if pid else "child"


def test_a_unit_that_returns_twice_is_answered_once(arena, verdict) -> None:
    said = arena.attack(forge_in_a_fork).result(20)

    verdict(said == "parent", said)


# --- zygote and siblings ----------------------------------------------------------------------------------------------


def kill_zygote() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(30)


def stop_zygote() -> None:
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV, signal.SIGCHLD):
        os.kill(os.getppid(), number)
    time.sleep(30)


def kill_all() -> None:
    os.kill(-1, signal.SIGKILL)
    time.sleep(30)


def stop_all() -> None:
    os.kill(-1, signal.SIGSTOP)
    time.sleep(30)


def kill_every_number() -> None:
    for pid in range(2, 70_000):
        if pid != os.getpid():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
    time.sleep(30)


def die() -> None:
    os._exit(0)


@pytest.mark.parametrize(
    "attack", [kill_zygote, stop_zygote, kill_all, stop_all, kill_every_number, die], ids=lambda attack: attack.__name__
)
def test_signals_end_nothing_but_the_attackers_own_cage(arena, verdict, attack) -> None:
    with arena.neighbour.options(retries=0) as once:
        witness = once.submit(time.sleep, 1.5)
        unit = arena.attack(attack, timeout=1)
        reason = arena.failure(unit)
        unharmed = witness.exception(20)

    verdict(unharmed is None, unharmed or reason)
    assert arena.attack(abs, -1).result(20) == 1, "and the attacker is served again"


def look_for_sockets() -> list[str]:
    """What of the zygote's, the warden's or the daemon's a worker still holds."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}").partition(":")[0])
        except OSError:
            continue
    return sorted(found)


def test_a_worker_holds_one_socket(arena, verdict) -> None:
    found = arena.attack(look_for_sockets).result(20)

    verdict(found.count("socket") == 1, found)
