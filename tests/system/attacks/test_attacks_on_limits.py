"""Attacks that take more than a unit was given: each meets a bound, and the reason names it; nobody else is touched."""

import ctypes
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import cloudpickle
import pytest

cloudpickle.register_pickle_by_value(sys.modules[__name__])

MIB = 1 << 20
# Far above what an attacker has, far below what would hurt where nothing holds.
MUCH = 1 << 30
PATIENCE_S = 20.0
MEMORY_ENDS = ("256 MiB of memory", "MemoryError", "Cannot allocate memory")
# What a node without cgroups says that it lacks: there, memory is bounded for each process alone.
GROUPS = "processor time"


# --- memory -----------------------------------------------------------------------------------------------------------


def take_memory(size: int) -> str:
    held = [bytearray(b"x") * MIB for _ in range(size // MIB)]
    return f"has {len(held)} MiB"


def take_memory_by_mapping(size: int) -> str:
    area = mmap.mmap(-1, size)
    for page in range(0, size, mmap.PAGESIZE):
        area[page] = 1
    return f"has {size // MIB} MiB"


def take_memory_by_many(size: int) -> str:
    """Each of eight processes takes an eighth: only what is counted together is bounded."""
    children, reading = [], []
    for _ in range(8):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                held = [bytearray(b"x") * MIB for _ in range(size // MIB // 8)]
                os.write(write, b"x" * bool(held))
                signal.pause()
            finally:
                os._exit(1)
        os.close(write)
        children.append(pid)
        reading.append(read)
    full = sum(len(os.read(read, 1)) for read in reading)
    for pid, read in zip(children, reading, strict=True):
        os.close(read)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if full < len(children):
        raise MemoryError(f"{full} of {len(children)} had theirs")
    return f"{full} processes have {size // MIB} MiB"


def take_memory_without_a_name(size: int) -> str:
    """Files in memory belong to no folder; they count as whose descriptor they are."""
    held = []
    for number in range(16):
        held.append(os.memfd_create(str(number)))
        for _ in range(size // 16 // MIB):
            os.write(held[-1], b"x" * MIB)
    return f"has {size // MIB} MiB in {len(held)} files"


MEMORY = [take_memory, take_memory_by_mapping, take_memory_by_many, take_memory_without_a_name]


@pytest.mark.parametrize("attack", MEMORY, ids=lambda attack: attack.__name__)
def test_memory_is_bounded_and_the_reason_says_so(arena, verdict, attack) -> None:
    """What no group counts, a limit on addresses may not see: files in memory, and many processes."""
    unit = arena.attack(attack, MUCH, timeout=15)
    arena.serves()
    error = unit.exception(20)

    verdict(error is not None, error or unit.result(), kept_by="" if attack in MEMORY[:2] else GROUPS)
    if error is not None and attack in MEMORY[:2]:
        assert any(said in f"{type(error).__name__}: {error}" for said in MEMORY_ENDS), error


# --- files ------------------------------------------------------------------------------------------------------------


def fill(folder: str, size: int) -> str:
    """In files of 4 MiB each, since a limit on each file is none on all."""
    made = []
    try:
        for number in range(size // (4 * MIB)):
            made.append(Path(folder, f"filler-{os.getpid()}-{number}"))
            with made[-1].open("wb") as file:
                for _ in range(4):
                    file.write(b"x" * MIB)
    finally:
        for path in made:
            with suppress(OSError):
                path.unlink()
    return f"wrote {size // MIB} MiB"


def write_one_large_file(size: int) -> str:
    """Without a hole in it that would cost nothing."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open("large", "wb") as file:
        os.ftruncate(file.fileno(), size)
    os.unlink("large")
    return f"has a file of {size}"


@pytest.mark.parametrize("folder", ["/dev/shm", "/tmp", "/var/tmp", "/run", "/"])
def test_no_folder_of_the_host_is_filled(arena, verdict, folder) -> None:
    """What is there may be the cage's own, and is then memory of the unit."""
    unit = arena.attack(fill, folder, 1_200 * MIB, timeout=15)
    arena.serves()
    error = unit.exception(20)

    verdict(error is not None, error or unit.result(), kept_by="scratch")
    assert list(Path(folder).glob("filler-*")) == []


def test_scratch_space_is_bounded(arena, verdict) -> None:
    """It is memory of the unit where the cage has a file system of its own."""
    unit = arena.attack(fill, ".", 1_200 * MIB, timeout=15)
    arena.serves()
    error = unit.exception(20)

    verdict(error is not None, error or unit.result(), kept_by="scratch")


def test_each_file_is_bounded(arena, verdict) -> None:
    unit = arena.attack(write_one_large_file, 1 << 40)

    verdict("OSError" in arena.failure(unit), unit.exception())


# --- processes and descriptors ----------------------------------------------------------------------------------------


def fork_bomb(wanted: int) -> str:
    made = []
    try:
        for _ in range(wanted):
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            made.append(pid)
    finally:
        for pid in made:
            os.kill(pid, signal.SIGKILL)
        for pid in made:
            os.waitpid(pid, 0)
    return f"made {len(made)} processes"


def fork_bomb_that_nobody_ends() -> None:
    """Each process makes others for as long as it can; none waits for any."""
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        with suppress(OSError):
            if os.fork() == 0:
                os.setsid()


def thread_bomb(wanted: int) -> str:
    end = threading.Event()
    threading.stack_size(64 << 10)
    made = []
    try:
        for _ in range(wanted):
            made.append(threading.Thread(target=end.wait))
            made[-1].start()
    finally:
        end.set()
        threading.stack_size(0)
    return f"made {len(made)} threads"


def open_everything(wanted: int) -> str:
    held = []
    try:
        while len(held) < wanted:
            held.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for descriptor in held:
            os.close(descriptor)
    return f"opened {wanted}"


def fill_sockets(wanted: int) -> str:
    """What lies in sockets is the kernel's memory."""
    pairs, size = [], 0
    try:
        while len(pairs) < wanted:
            pairs.append(socket.socketpair())
            pairs[-1][0].setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    size += pairs[-1][0].send(b"x" * (64 << 10))
    finally:
        for pair in pairs:
            for end in pair:
                end.close()
    return f"{size // MIB} MiB in {len(pairs)} pairs"


def test_a_fork_bomb_meets_its_bound(arena, verdict) -> None:
    """512 processes for each cage."""
    unit = arena.attack(fork_bomb, 1_100, timeout=15)
    arena.serves()

    verdict(unit.exception(20) is not None, unit.exception() or unit.result(), kept_by="number of processes")


def test_a_fork_bomb_that_nobody_ends_is_put_out_with_its_unit(arena, verdict) -> None:
    """Faster than it forks only where a namespace or a group ends all of it at once; elsewhere its bound holds it."""
    unit = arena.attack(fork_bomb_that_nobody_ends, timeout=1)
    arena.serves()
    reason = arena.failure(unit)
    time_of_end = time.monotonic()
    arena.serves()
    arena.until(lambda: len(arena.lender.processes()) < 40, 2 * PATIENCE_S)
    took = time.monotonic() - time_of_end

    assert "ran for longer than its 1 s" in reason or MEMORY_ENDS[0] in reason, reason
    verdict(took < 4, f"it was gone {took:.1f} s after its unit", kept_by="namespaces")


def test_threads_are_bounded(arena, verdict) -> None:
    unit = arena.attack(thread_bomb, 1_100, timeout=15)

    verdict(unit.exception(20) is not None, unit.exception() or unit.result(), kept_by="number of processes")


def test_open_files_are_bounded(arena, verdict) -> None:
    verdict(*arena.tried(open_everything, 1_100))


def test_what_lies_in_sockets_is_bounded(arena, verdict) -> None:
    unit = arena.attack(fill_sockets, 600, timeout=15)
    arena.serves()

    verdict(unit.exception(20) is not None, unit.exception() or unit.result())


# --- what comes back --------------------------------------------------------------------------------------------------


def write_to_everything() -> str:
    """Descriptors that a daemon might read, or a terminal show."""
    for descriptor in (1, 2):
        for _ in range(64):
            os.write(descriptor, b"x" * MIB)
    return "wrote 128 MiB to nobody"


def return_much() -> bytes:
    return bytes(65 * MIB)


def fail_at_length() -> None:
    raise ValueError("x" * (8 * MIB))


class Unspeakable(Exception):
    """Everything that a daemon might ask of it goes wrong."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__

    def __reduce__(self) -> str:
        raise RuntimeError("no")


def fail_unspeakably() -> None:
    raise Unspeakable


def recurse(depth: int = 0) -> int:
    sys.setrecursionlimit(1 << 30)
    return recurse(depth + 1)


def crash() -> None:
    ctypes.string_at(0)


def use_a_processor_of_others(seconds: float) -> float:
    """As many processes as there are processors, and more."""
    children = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                pass
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime / seconds


def test_what_is_printed_reaches_nobody(arena, verdict) -> None:
    size = arena.lender.log.stat().st_size
    said = arena.attack(write_to_everything).result(20)

    verdict(arena.lender.log.stat().st_size < size + MIB, said)


def test_a_result_that_is_too_large_is_refused_by_its_worker(arena, verdict) -> None:
    reason = arena.failure(arena.attack(return_much))

    verdict("67108864 may travel" in reason or "MemoryError" in reason, reason)


def test_an_error_of_any_length_is_told(arena, verdict) -> None:
    reason = arena.failure(arena.attack(fail_at_length))

    verdict("ValueError" in reason, reason)


def test_an_error_that_can_not_be_looked_at_is_told(arena, verdict) -> None:
    error = arena.attack(fail_unspeakably).exception(20)

    verdict(type(error).__name__ == "Unspeakable", type(error))


def test_recursion_without_end_ends_one_worker(arena, verdict) -> None:
    reason = arena.failure(arena.attack(recurse, timeout=15))

    ends = ("SIGSEGV", "RecursionError", "MemoryError", "SystemError", "256 MiB of memory", "longer than its 15 s")
    verdict(any(said in reason for said in ends), reason)


def test_a_crash_ends_one_worker(arena, verdict) -> None:
    reason = arena.failure(arena.attack(crash))

    verdict("SIGSEGV" in reason, reason)


def test_who_asked_for_one_processor_has_one(arena, verdict) -> None:
    """Where groups share processors out; elsewhere the kernel's scheduler has only nice words."""
    unit = arena.attack(use_a_processor_of_others, 1.5)
    arena.serves()
    used = unit.result(20)

    verdict(used < 1.3, f"used {used:.1f} processors", kept_by=GROUPS)
