"""A root of its own for a cage, made by the kernel's own calls. For a process that has a namespace of mounts already.

The order matters. A small root in memory takes the host's place, which lies below it in /old for as long as it is
built from; then the new root takes that one's place, and both others are let go: nothing leads back.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd_node.errors import CageError
from meshd_node.exec.cage import inside
from meshd_node.exec.cage.closure import folders_above, outermost
from meshd_node.exec.cage.spec import CageSpec
from meshd_node.exec.cage.syscalls import FORBIDDEN, column

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_NO_SETUID, _NO_DEVICES, _NO_PROGRAMS = 2, 4, 8  # MS_NOSUID, MS_NODEV, MS_NOEXEC
_BIND, _RECURSIVE, _PRIVATE = 4_096, 16_384, 1 << 18
_DETACH: Final = 2
# Of mount_setattr, whose numbers for the same things differ in nothing but the first, which is to read only.
_READ_ONLY: Final = 1
_ALL_BELOW: Final = 0x8000
_HERE: Final = -100

# Any folder that is there on every system: the host's is seen again as soon as the first root has moved.
_FIRST_ROOT: Final = "/tmp"  # noqa: S108
_OLD, _NEW = "/old", "/new"
_DEVICES: Final = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))
_DEVICE_LINKS: Final = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
# What of /proc sets the machine, for root makes this one; bubblewrap covers the same.
_SETTINGS: Final = ("sys", "sysrq-trigger", "irq", "bus")


@dataclass(frozen=True, slots=True)
class _Place:
    """One path of the host that is seen inside. Links are followed while the host is the root, and not later."""

    path: Path
    source: Path
    is_folder: bool
    link: str | None = None


def enter(spec: CageSpec) -> None:
    """Make the cage's root out of what the spec names, and enter it for good; `OSError` if the kernel refuses."""
    files = list(_places(outermost(spec.read_only)))
    devices = list(_places((*map(Path, _DEVICES), *spec.devices)))
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    _move_to_first_root()
    _mount("tmpfs", _NEW, "tmpfs", _NO_SETUID | _NO_DEVICES, "mode=755")
    for place in files:
        _bind(place, _READ_ONLY | _NO_SETUID | _NO_DEVICES)
    _make_proc()
    _make_devices(devices, spec.limits.scratch_bytes)
    _mount_memory(inside.SCRATCH, spec.limits.scratch_bytes)
    for path in ("/dev", ""):
        _set_attributes(_NEW + path, _READ_ONLY, 0)
    _move_to(_NEW)
    os.chdir(inside.SCRATCH)


def _places(paths: tuple[Path, ...]) -> Iterator[_Place]:
    for path in paths:
        if path.is_symlink():
            yield _Place(path, path, is_folder=False, link=str(path.readlink()))
        elif path.exists():
            yield _Place(path, path.resolve(), path.is_dir())


def _move_to_first_root() -> None:
    _mount("tmpfs", _FIRST_ROOT, "tmpfs", _NO_SETUID | _NO_DEVICES, "mode=755")
    os.mkdir(_FIRST_ROOT + _OLD)
    os.mkdir(_FIRST_ROOT + _NEW)
    _pivot(_FIRST_ROOT, _FIRST_ROOT + _OLD)
    os.chdir("/")


def _move_to(root: str) -> None:
    """Take a root, and let go of the one that was."""
    os.chdir(root)
    _pivot(".", ".")
    if _LIBC.umount2(b".", _DETACH):
        raise _error("the host's files can not be let go")
    os.chdir("/")


def _bind(place: _Place, attributes: int) -> None:
    _make_folders_above(place.path)
    target = f"{_NEW}{place.path}"
    if place.link is not None:
        os.symlink(place.link, target)
        return
    if place.is_folder:
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    _mount(f"{_OLD}{place.source}", target, None, _BIND | _RECURSIVE)
    _set_attributes(target, attributes, _ALL_BELOW)


def _make_folders_above(path: Path) -> None:
    for folder in folders_above([path]):
        with suppress(FileExistsError):
            os.mkdir(f"{_NEW}{folder}", 0o755)


def _make_proc() -> None:
    os.mkdir(_NEW + "/proc", 0o755)
    _mount("proc", _NEW + "/proc", "proc", _NO_SETUID | _NO_DEVICES | _NO_PROGRAMS)
    for name in _SETTINGS:
        path = f"{_NEW}/proc/{name}"
        if os.path.exists(path):
            _mount(path, path, None, _BIND | _RECURSIVE)
            _set_attributes(path, _READ_ONLY, _ALL_BELOW)


def _make_devices(devices: list[_Place], bytes_shared: int) -> None:
    os.mkdir(_NEW + "/dev", 0o755)
    _mount("tmpfs", _NEW + "/dev", "tmpfs", _NO_SETUID | _NO_PROGRAMS, "mode=755")
    for device in devices:
        _bind(device, _NO_SETUID | _NO_PROGRAMS)
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"{_NEW}/dev/{name}")
    os.mkdir(_NEW + "/dev/pts", 0o755)
    _mount("devpts", _NEW + "/dev/pts", "devpts", _NO_SETUID | _NO_PROGRAMS, "newinstance,ptmxmode=0666,mode=620")
    _mount_memory("/dev/shm", bytes_shared)  # noqa: S108


def _mount_memory(path: str, size: int) -> None:
    """A folder in memory that the cage's user writes to, which is not always the one that mounts it."""
    os.mkdir(_NEW + path, 0o755)
    _mount("tmpfs", _NEW + path, "tmpfs", _NO_SETUID | _NO_DEVICES, f"mode=1777,size={size}")


# --- the kernel's calls -------------------------------------------------------------------------------------------


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    if _LIBC.mount(_text(source), _text(target), _text(kind), ctypes.c_ulong(flags), _text(options)):
        raise _error(f"{kind or source} can not be mounted at {target}")


def _set_attributes(path: str, attributes: int, flags: int) -> None:
    """Add attributes to mounts and, if so asked, to all below; unlike a remount it never takes any away."""
    described = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    arguments = (ctypes.c_int(_HERE), _text(path), ctypes.c_uint(flags), described, ctypes.c_size_t(32))
    _call("mount_setattr", f"{path} can not be closed to writing", *arguments)


def _pivot(root: str, below: str) -> None:
    _call("pivot_root", f"{root} can not become the root", _text(root), _text(below))


def _call(name: str, failure: str, *arguments: object) -> None:
    machine = column()
    if machine is None:
        raise CageError(f"{name} has no number here for this kind of machine")
    call: Callable[..., int] = _LIBC.syscall
    if call(ctypes.c_long(FORBIDDEN[name][machine] or 0), *arguments):
        raise _error(failure)


def _text(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _error(failure: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{failure}: {os.strerror(code)}")
