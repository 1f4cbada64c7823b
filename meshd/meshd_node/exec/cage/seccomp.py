"""The filter of syscalls: which a cage can not call, and what it gets instead. Classic BPF, written here.

The kernel runs it for each syscall, 50 ns. It can look at numbers and registers, not behind pointers: that is why
`clone3`, whose flags lie in memory, does not exist in a cage (libraries then use `clone`).
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Final, assert_never

from meshd_node.exec.cage.spec import Apart
from meshd_node.exec.cage.syscalls import (
    BY_ARGUMENT,
    FORBIDDEN,
    LAST_KNOWN,
    OF_THE_SAME_USER,
    PIDFD_SEND_SIGNAL,
    SHARED_WITH_THE_HOST,
    SIGNALS,
    TO_PROCESSES,
    Numbers,
    column,
)

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2

# One instruction: code, how many to skip if true and if false, operand.
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD, _IF_EQUAL, _IF_GREATER, _IF_ANY, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
# Where what is looked at lies (struct seccomp_data); of an argument the lower half, on machines of either kind here.
_NUMBER, _MACHINE, _ARGUMENT = 0, 4, 16
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_FAIL: Final = 0x00050000  # with the error in the lowest bits
_NOT_PERMITTED: Final = (_RETURN, 0, 0, _FAIL | errno.EPERM)

# What the kernel calls a machine, by its column in the tables (AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64).
_AUDIT_NAMES: Final = (0xC000003E, 0xC00000B7)
_NEW_NAMESPACES: Final = 0x7E020000  # CLONE_NEWNS and the six others that clone knows
_PUSH_INTO_TERMINAL: Final = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: keys that the terminal's owner did not press
_ASK_PERSONALITY: Final = 0xFFFFFFFF
_AF_UNIX: Final = 1

_Instructions = list[tuple[int, int, int, int]]


def restrict(apart: Apart) -> int:
    """Filter this process and all that come of it, for good; the number of instructions, 0 where this can not be.

    Where files and IPC are the host's, no socket is made by name at all: every unix socket of the host that others may
    write to would be a way out. Pairs of sockets work. Where even the user is the daemon's, files are not changed by
    name but in what they hold. The process must have given up new privileges. `OSError` if the kernel does not filter.
    """
    return _load(program(apart))


def forbid_signals() -> int:
    """Let this process, and all that come of it, signal nobody but this process, for good; see `restrict`.

    For a worker that has the user of its zygote or of the daemon, where Landlock does not know of signals (ABI < 6).
    """
    machine = column()
    if machine is None:
        return 0
    rules = [rule for number in _numbers(SIGNALS, machine) for rule in _unless_first(number, os.getpid())]
    # A descriptor of another process can be given any number, this process's among them.
    by_descriptor = _if_called(PIDFD_SEND_SIGNAL, [_NOT_PERMITTED])
    return _load(_packed([*_of_machine(machine), *by_descriptor, *rules, (_RETURN, 0, 0, _ALLOW)]))


def program(apart: Apart) -> bytes:
    """The filter for this machine, as the kernel and bubblewrap take it; empty for a machine without tables here."""
    machine = column()
    if machine is None:
        return b""
    rules: _Instructions = [
        *_of_machine(machine),
        # x32, and what the kernel learned after this was written: programs take it for an old kernel.
        (_IF_GREATER, 0, 1, LAST_KNOWN),
        (_RETURN, 0, 0, _FAIL | errno.ENOSYS),
        *_by_argument(machine, apart),
    ]
    if apart is Apart.NOTHING:
        rules += _to_itself_only(machine)
    for number in _numbers(_forbidden(apart), machine):
        rules += [(_IF_EQUAL, 0, 1, number), _NOT_PERMITTED]
    return _packed([*rules, (_RETURN, 0, 0, _ALLOW)])


def _forbidden(apart: Apart) -> dict[str, Numbers]:
    match apart:
        case Apart.NAMESPACES:
            return FORBIDDEN
        case Apart.USER:
            return {**FORBIDDEN, **SHARED_WITH_THE_HOST}
        case Apart.NOTHING:
            return {**FORBIDDEN, **SHARED_WITH_THE_HOST, **OF_THE_SAME_USER}
        case _:
            assert_never(apart)


def _of_machine(machine: int) -> _Instructions:
    """Kill who calls by another machine's numbers; then load the number."""
    return [
        (_LOAD, 0, 0, _MACHINE),
        (_IF_EQUAL, 1, 0, _AUDIT_NAMES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]


def _by_argument(machine: int, apart: Apart) -> _Instructions:
    numbers = {name: of[machine] for name, of in BY_ARGUMENT.items()}
    sockets = [(_IF_EQUAL, 0, 1, _AF_UNIX), (_RETURN, 0, 0, _ALLOW)]
    refused = (_RETURN, 0, 0, _FAIL | errno.EACCES)
    allowed = (_RETURN, 0, 0, _ALLOW)
    typing = [rule for key in _PUSH_INTO_TERMINAL for rule in ((_IF_EQUAL, 0, 1, key), _NOT_PERMITTED)]
    return [
        *_if_called(
            numbers["socket"], [(_LOAD, 0, 0, _ARGUMENT), *(sockets if apart is Apart.NAMESPACES else []), refused]
        ),
        *_if_called(numbers["socketpair"], [(_LOAD, 0, 0, _ARGUMENT), *sockets, refused]),
        *_if_called(
            numbers["clone"], [(_LOAD, 0, 0, _ARGUMENT), (_IF_ANY, 0, 1, _NEW_NAMESPACES), _NOT_PERMITTED, allowed]
        ),
        *_if_called(numbers["clone3"], [(_RETURN, 0, 0, _FAIL | errno.ENOSYS)]),
        *_if_called(numbers["ioctl"], [(_LOAD, 0, 0, _ARGUMENT + 8), *typing, allowed]),
        # Personalities switch protections off.
        *_if_called(
            numbers["personality"],
            [
                (_LOAD, 0, 0, _ARGUMENT),
                (_IF_EQUAL, 2, 0, 0),
                (_IF_EQUAL, 1, 0, _ASK_PERSONALITY),
                _NOT_PERMITTED,
                allowed,
            ],
        ),
    ]


def _to_itself_only(machine: int) -> _Instructions:
    """Where other processes have the same user: nothing is done to them, and times of files are set by descriptor."""
    rules = [rule for number in _numbers(TO_PROCESSES, machine) for rule in _unless_first(number, 0)]
    # A file without a name is the descriptor itself: a null pointer, in both halves.
    name = _ARGUMENT + 8
    null = [
        (_LOAD, 0, 0, name),
        (_IF_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, name + 4),
        (_IF_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        _NOT_PERMITTED,
    ]
    return [*rules, *_if_called(BY_ARGUMENT["utimensat"][machine], null)]


def _if_called(number: int | None, rules: _Instructions) -> _Instructions:
    """Rules for one syscall, of which the last must return."""
    return [] if number is None else [(_IF_EQUAL, 0, len(rules), number), *rules]


def _unless_first(number: int, value: int) -> _Instructions:
    """Forbid a syscall unless its first argument, 32 bits of it, is a value."""
    rules = [
        (_LOAD, 0, 0, _ARGUMENT),
        (_IF_EQUAL, 1, 0, value),
        _NOT_PERMITTED,
        (_RETURN, 0, 0, _ALLOW),
    ]
    return _if_called(number, rules)


def _numbers(table: Mapping[str, Numbers], machine: int) -> Iterator[int]:
    for of in table.values():
        number = of[machine]
        if number is not None:
            yield number


def _packed(rules: _Instructions) -> bytes:
    return b"".join(_INSTRUCTION.pack(*rule) for rule in rules)


class _Program(ctypes.Structure):
    """The kernel's `struct sock_fprog`."""

    _fields_ = (("count", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _load(instructions: bytes) -> int:
    if not instructions:
        return 0
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    count = len(instructions) // _INSTRUCTION.size
    described = _Program(count, ctypes.addressof(buffer))
    if _LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(described), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not filter syscalls (seccomp)")
    return count
