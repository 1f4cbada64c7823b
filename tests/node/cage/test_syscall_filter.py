"""The filter of syscalls, run here as the kernel would, for both kinds of machine."""

import errno
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from meshd_node.exec.cage import seccomp, syscalls
from meshd_node.exec.cage.spec import Apart
from meshd_node.exec.cage.syscalls import (
    BY_ARGUMENT,
    FORBIDDEN,
    LAST_KNOWN,
    OF_THE_SAME_USER,
    SHARED_WITH_THE_HOST,
    SIGNALS,
    TO_PROCESSES,
)

TABLES = {**FORBIDDEN, **SHARED_WITH_THE_HOST, **OF_THE_SAME_USER, **TO_PROCESSES, **BY_ARGUMENT, **SIGNALS}
MACHINES = {0: 0xC000003E, 1: 0xC00000B7}
ALLOWED, KILLED = 0x7FFF0000, 0x80000000
HEADERS = (
    (0, Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")),
    (1, Path("/usr/include/asm-generic/unistd.h")),
)


def refused(error: int) -> int:
    return 0x00050000 | error


@pytest.fixture(params=[0, 1], ids=["x86_64", "aarch64"])
def machine(request, monkeypatch) -> int:
    monkeypatch.setattr(seccomp, "column", lambda: request.param)
    return request.param


def judged(program: bytes, machine: int, number: int, *arguments: int) -> int:
    """What a filter answers to a call: the part of classic BPF that filters consist of."""
    registers = [argument & ((1 << 64) - 1) for argument in arguments] + [0] * (6 - len(arguments))
    data = struct.pack("=IIQ6Q", number, machine, 0, *registers)
    rules = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        code, if_true, if_false, operand = rules[at]
        at += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("=I", data, operand)
            case 0x15:
                at += if_true if value == operand else if_false
            case 0x25:
                at += if_true if value > operand else if_false
            case 0x45:
                at += if_true if value & operand else if_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"no instruction of a filter: {code:#x}")


def answer(machine: int, name: str, *arguments: int, apart: Apart = Apart.NAMESPACES) -> int:
    number = TABLES[name][machine]
    assert number is not None
    return judged(seccomp.program(apart), MACHINES[machine], number, *arguments)


def test_every_forbidden_call_is_refused_with_any_arguments(machine) -> None:
    for name, numbers in FORBIDDEN.items():
        if numbers[machine] is not None:
            assert answer(machine, name, 1, 2, 3) == refused(errno.EPERM), name


def test_ordinary_calls_are_allowed(machine) -> None:
    ordinary = {0: (0, 1, 9, 12, 57, 59, 202, 231, 257, 318), 1: (63, 64, 222, 214, 221, 98, 94, 56, 278)}[machine]

    for number in ordinary:
        assert judged(seccomp.program(Apart.NAMESPACES), MACHINES[machine], number) == ALLOWED


@pytest.mark.parametrize("number", [LAST_KNOWN + 1, 0x40000000, 0x40000000 + 165, 0xFFFFFFFF])
def test_calls_of_the_future_and_of_another_abi_do_not_exist(machine, number) -> None:
    assert judged(seccomp.program(Apart.NAMESPACES), MACHINES[machine], number) == refused(errno.ENOSYS)


@pytest.mark.parametrize("other", [0x40000003, 0x40000028, 0])
def test_calls_by_another_machines_numbers_end_the_process(machine, other) -> None:
    """32-bit programs run on 64-bit kernels, with other numbers for everything."""
    assert judged(seccomp.program(Apart.NAMESPACES), other, 0) == KILLED


def test_sockets_are_unix_ones_and_only_where_names_are_the_cages(machine) -> None:
    for family in (2, 10, 16, 17, 40):
        assert answer(machine, "socket", family, 1, 0) == refused(errno.EACCES)
        assert answer(machine, "socketpair", family, 1, 0) == refused(errno.EACCES)
    assert answer(machine, "socket", 1, 1, 0) == ALLOWED
    assert answer(machine, "socket", 1, 1, 0, apart=Apart.USER) == refused(errno.EACCES)
    assert answer(machine, "socketpair", 1, 1, 0, apart=Apart.USER) == ALLOWED


@pytest.mark.parametrize("bit", [17, 25, 26, 27, 28, 29, 30])
def test_clone_makes_processes_and_threads_but_no_namespaces(machine, bit) -> None:
    assert answer(machine, "clone", 0x11) == ALLOWED
    assert answer(machine, "clone", 0x3D0F00) == ALLOWED
    assert answer(machine, "clone", 0x11 | 1 << bit) == refused(errno.EPERM)


def test_clone3_does_not_exist_since_its_flags_are_in_memory(machine) -> None:
    assert answer(machine, "clone3", 1, 88) == refused(errno.ENOSYS)


def test_terminals_are_not_typed_into_even_with_bits_that_the_kernel_drops(machine) -> None:
    for key in (0x5412, 0x541C):
        assert answer(machine, "ioctl", 0, key) == refused(errno.EPERM)
        assert answer(machine, "ioctl", 0, key | 1 << 32) == refused(errno.EPERM)
    assert answer(machine, "ioctl", 0, 0x5413) == ALLOWED


def test_personality_is_asked_for_and_not_changed(machine) -> None:
    assert answer(machine, "personality", 0) == ALLOWED
    assert answer(machine, "personality", 0xFFFFFFFF) == ALLOWED
    assert answer(machine, "personality", 0x0400000) == refused(errno.EPERM)


def test_what_outlives_its_maker_is_forbidden_where_it_would_be_the_hosts(machine) -> None:
    for name in SHARED_WITH_THE_HOST:
        assert answer(machine, name) == ALLOWED
        assert answer(machine, name, apart=Apart.USER) == refused(errno.EPERM)


def test_files_are_not_opened_to_others_by_whoever_is_the_daemons_user(machine) -> None:
    """Landlock has no rule for modes and owners of files, and the node's key belongs to that user."""
    for name, numbers in OF_THE_SAME_USER.items():
        if numbers[machine] is not None:
            assert answer(machine, name, apart=Apart.USER) == ALLOWED, name
            assert answer(machine, name, apart=Apart.NOTHING) == refused(errno.EPERM), name


def test_processes_of_the_daemons_user_change_none_but_themselves(machine) -> None:
    for name in TO_PROCESSES:
        assert answer(machine, name, 0, apart=Apart.NOTHING) == ALLOWED, name
        assert answer(machine, name, 1_234, apart=Apart.NOTHING) == refused(errno.EPERM), name
        assert answer(machine, name, 1_234, apart=Apart.USER) == ALLOWED, name


@pytest.mark.parametrize("pointer", [1, 0x7F00, 1 << 32, 0xFFFFFFFF00000000])
def test_times_of_files_are_set_by_descriptor_only_by_the_daemons_user(machine, pointer) -> None:
    assert answer(machine, "utimensat", 3, 0, apart=Apart.NOTHING) == ALLOWED
    assert answer(machine, "utimensat", 3, pointer, apart=Apart.NOTHING) == refused(errno.EPERM)
    assert answer(machine, "utimensat", 3, pointer) == ALLOWED


def test_a_machine_without_numbers_here_has_no_filter(monkeypatch) -> None:
    """That is seen when the cage is attacked: the node says so, and lends itself less."""
    monkeypatch.setattr(seccomp, "column", lambda: None)

    assert seccomp.program(Apart.NAMESPACES) == b""
    assert seccomp.restrict(Apart.NAMESPACES) == 0


@pytest.mark.parametrize(("machine_of_header", "header"), HEADERS)
def test_numbers_are_those_of_the_systems_headers(machine_of_header, header) -> None:
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))

    for name, numbers in TABLES.items():
        ours = numbers[machine_of_header]
        if name in found or ours is None:
            assert found.get(name) == (None if ours is None else str(ours)), name


def test_a_descriptor_with_the_number_of_a_process_does_not_stand_for_it() -> None:
    """`pidfd_send_signal` takes a descriptor, which is a number that the caller chooses."""
    if syscalls.column() is None:
        pytest.skip("there is no filter for this kind of machine")
    code = (
        "import ctypes, os, resource, signal; from meshd_node.exec.cage import seccomp\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)\n"
        "try: os.dup2(os.pidfd_open(os.getppid()), os.getpid())\n"
        "except OSError: print('too few descriptors'); os._exit(0)\n"
        "ctypes.CDLL(None).prctl(38, 1, 0, 0, 0); seccomp.forbid_signals()\n"
        "try: signal.pidfd_send_signal(os.getpid(), 0)\n"
        "except PermissionError: print('not permitted')"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()

    if said == "too few descriptors":
        pytest.skip(f"no descriptor may have the number of a process here: {said}")
    assert said == "not permitted"


def test_a_process_that_may_signal_nobody_else_can_end_itself_alone() -> None:
    if syscalls.column() is None:
        pytest.skip("there is no filter for this kind of machine")
    code = (
        "import ctypes, os; from meshd_node.exec.cage import seccomp\n"
        "ctypes.CDLL(None).prctl(38, 1, 0, 0, 0); seccomp.forbid_signals()\n"
        "try: os.kill(os.getppid(), 0)\n"
        "except PermissionError: os.kill(os.getpid(), 9)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
