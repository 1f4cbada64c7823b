"""Attacks by calls to the kernel that no work needs, and by which many escapes began; and on other processes by such.

The numbers are not those of the filter (`syscalls`): one that is wrong there is to be found here.
"""

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_PR_GET_NO_NEW_PRIVS: Final = 39
_PTRACE_SEIZE: Final = 0x4206
_CLONE_NEWUSER: Final = 0x10000000
# (x86_64, aarch64), by the column of this machine.
_NUMBERS: Final = {
    "clone": (56, 220),
    "setns": (308, 268),
    "mount": (165, 40),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "process_vm_readv": (310, 270),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "clone3": (435, 435),
}
# struct iovec
_VECTOR: Final = struct.Struct("PN")
_COLUMN: Final = 1 if os.uname().machine == "aarch64" else 0


def trace(pid: int) -> str:
    """Attach to a process; it is let go when this one ends."""
    return _called(_LIBC.ptrace(_PTRACE_SEIZE, pid, None, None))


def read_memory(pid: int) -> str:
    """Read a process's memory; where is not known, but the kernel asks first whether one may."""
    ours = ctypes.create_string_buffer(8)
    local, remote = (_VECTOR.pack(address, 8) for address in (ctypes.addressof(ours), 1 << 12))
    try:
        return _called(_syscall("process_vm_readv", pid, local, 1, remote, 1, 0))
    except OSError as error:
        if error.errno == errno.EFAULT:
            return "allowed"
        raise


def calls() -> list[tuple[str, Callable[[], str]]]:
    """Calls that no work needs and many escapes began with; in each the arguments are such that nothing happens."""
    page = ctypes.create_string_buffer(256)
    event = ctypes.create_string_buffer(bytes((1, 0, 0, 0, 112)), 256)  # a counter of software, of 112 bytes
    return [
        ("clone", _clone_user_namespace),
        ("clone3", lambda: _unfiltered(_syscall("clone3", None, 0))),
        ("setns", lambda: _unfiltered(_syscall("setns", -1, 0))),
        ("mount", lambda: _unfiltered(_syscall("mount", None, b"/nowhere", None, 0, None))),
        ("open_tree", lambda: _unfiltered(_syscall("open_tree", -1, b"/nowhere", 1))),
        ("keyctl", lambda: _unfiltered(_syscall("keyctl", 0, -3, 0))),
        ("add_key", lambda: _unfiltered(_syscall("add_key", b"user", b"meshd", page, 0, -2))),
        ("io_uring", lambda: _unfiltered(_syscall("io_uring_setup", 1, page))),
        ("bpf", lambda: _unfiltered(_syscall("bpf", 5, page, 48))),
        ("userfaultfd", lambda: _unfiltered(_syscall("userfaultfd", 1))),
        ("perf_event_open", lambda: _unfiltered(_syscall("perf_event_open", event, 0, -1, -1, 0))),
    ]


def make_user_namespace() -> str:
    """Become root of a namespace of users: the way to most faults of the kernel."""
    return _called(_LIBC.unshare(_CLONE_NEWUSER))


def _clone_user_namespace() -> str:
    pid = _syscall("clone", _CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    _called(pid)
    os.waitpid(pid, 0)
    return "made a user namespace"


def gain_privileges() -> str:
    """Ask whether a setuid program would still have its effect."""
    if _LIBC.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1:
        raise OSError(errno.EPERM, "no new privileges")
    return "a setuid program would be root"


def become_root() -> str:
    """Take back what was given up."""
    os.setresuid(0, 0, 0)
    return "done"


def change_root() -> str:
    """Use a capability of root, without effect."""
    os.chroot("/")
    return "done"


def _syscall(name: str, *arguments: object) -> int:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result: int = _LIBC.syscall(ctypes.c_long(_NUMBERS[name][_COLUMN]), *words)
    return result


def _called(result: int) -> str:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "done"


def _unfiltered(result: int) -> str:
    """Refused is a call that does not come to the kernel's own code: that would find fault with its arguments."""
    code = ctypes.get_errno()
    if result < 0 and code in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        raise OSError(code, os.strerror(code))
    if result > 2:
        with suppress(OSError):
            os.close(result)
    return "the kernel listened"
