"""The last steps into a cage, the same for every maker: limits, user, no way back, Landlock, the filter of syscalls.

Whoever forked the cage's first process takes them in it (`cross`). A maker that is another program, and starts ours
inside, has them taken by this one's `main`, which then becomes the cage's program: an interpreter's start more, 10 ms.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NoReturn

from meshd_node.errors import CageError
from meshd_node.exec.cage import landlock, seccomp
from meshd_node.exec.cage.spec import Apart, Limits

_PR_SET_PDEATHSIG: Final = 1
_CAPABILITY_VERSION: Final = 0x20080522  # the third, with two halves
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
# As shells say it of a program that is there and can not be run.
_NOT_MADE: Final = 126
_BEGIN: Final = "import sys; sys.path.insert(0, {!r}); from meshd_node.exec.cage.threshold import main; main()"


class _CapabilityHeader(ctypes.Structure):
    """`__user_cap_header_struct` of linux/capability.h."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityHalf(ctypes.Structure):
    """`__user_cap_data_struct`: 32 capabilities of each set."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_CapabilitySets = _CapabilityHalf * 2


@dataclass(frozen=True, slots=True)
class Threshold:
    """What holds from here on."""

    limits: Limits
    # The user to become; None is to stay the one that this is.
    uid: int | None
    # What Landlock leaves open, with all that is beneath.
    readable: tuple[str, ...]
    writable: tuple[str, ...]
    apart: Apart

    def cross(self) -> None:
        """Take the steps in this process; `OSError` if one fails. It must be single-threaded."""
        self.give_up_rights()
        landlock.restrict(self.readable, self.writable)
        seccomp.restrict(self.apart)

    def give_up_rights(self) -> None:
        """Take those steps that every kernel knows."""
        self._lower_limits()
        _give_up_capabilities()
        if self.uid is not None:
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)
        wish_to_die_with_parent()  # becoming another user cleared it
        _control_process(_PR_SET_NO_NEW_PRIVS, 1)
        os.umask(0o077)

    def _lower_limits(self) -> None:
        limits = self.limits
        bounds = [
            (resource.RLIMIT_CORE, 0),  # a core file would hold the submitter's data
            (resource.RLIMIT_NPROC, limits.pids),
            (resource.RLIMIT_NOFILE, limits.open_files),
            (resource.RLIMIT_FSIZE, limits.file_bytes),
        ]
        if limits.memory_bytes:
            bounds.append((resource.RLIMIT_AS, limits.memory_bytes))
        for limit, bound in bounds:
            _, hard = resource.getrlimit(limit)
            held = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.setrlimit(limit, (held, held))


def command(threshold: Threshold, argv: Sequence[str]) -> list[str]:
    """The command that crosses a threshold and becomes `argv`, for this interpreter, seen inside where it is here."""
    packages = str(Path(__file__).resolve().parents[3])
    return [
        sys.executable,
        "-I",
        "-S",
        "-c",
        _BEGIN.format(packages),
        json.dumps(asdict(threshold), default=_value),
        *argv,
    ]


def ending_on_error(steps: Callable[[], None]) -> None:
    """Take steps in a process that was forked for a cage; if they fail, say so and end it."""
    try:
        steps()
    except (OSError, CageError) as error:
        os.write(2, f"cage: {error}\n".encode())
        os._exit(_NOT_MADE)


def wish_to_die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends. It may have, before this."""
    _control_process(_PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_parent(parent: int) -> None:
    """End with a parent, even with one that has ended already."""
    wish_to_die_with_parent()
    if os.getppid() != parent:
        os._exit(1)


def main() -> NoReturn:
    """Begin: a threshold in JSON, and the command to become."""
    _, described, *argv = sys.argv
    ending_on_error(_threshold(json.loads(described)).cross)
    ending_on_error(lambda: os.execve(argv[0], argv, os.environ))  # noqa: S606  # no shell is wanted
    raise AssertionError("either this process is another program by now, or it ended")


def _value(member: Apart) -> str:
    return member.value


def _threshold(fields: dict[str, object]) -> Threshold:
    limits, uid, readable, writable = (fields[name] for name in ("limits", "uid", "readable", "writable"))
    assert isinstance(limits, dict)
    assert uid is None or isinstance(uid, int)
    assert isinstance(readable, list)
    assert isinstance(writable, list)
    return Threshold(Limits(**limits), uid, tuple(readable), tuple(writable), Apart(fields["apart"]))


def _give_up_capabilities() -> None:
    """Leave none that a program could come to have, if this may; those that it has go with its user, or exec."""
    capability = 0
    while _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    # Bubblewrap makes those inheritable that it was told to leave.
    header, sets = _CapabilityHeader(_CAPABILITY_VERSION, 0), _CapabilitySets()
    if _LIBC.capget(ctypes.byref(header), ctypes.byref(sets)):
        raise OSError(ctypes.get_errno(), "capget failed")
    sets[0].inheritable = sets[1].inheritable = 0
    if _LIBC.capset(ctypes.byref(header), ctypes.byref(sets)):
        raise OSError(ctypes.get_errno(), "capset failed")


def _control_process(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
