"""Landlock: rules on files, TCP, abstract sockets and signals that a process gives itself and all that come of it.

It wants no rights and no namespaces. What a kernel knows of it is its ABI: 1 files (5.13), 2 renaming between folders,
3 truncating (6.2), 4 TCP (6.7), 5 ioctl of devices, 6 abstract sockets and signals (6.12). 0 is none at all.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
# The same numbers on all machines.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_RULE: Final = struct.Struct("=Qi")

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
_MAKE_CHARACTER_DEVICE, _MAKE_BLOCK_DEVICE = 1 << 6, 1 << 11
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
# What may be allowed for something that is no folder.
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_TCP: Final = 0b11  # bind, connect
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11


def abi() -> int:
    """What this kernel knows of Landlock; 0 where there is none."""
    known: int = _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_ASK_VERSION))
    return max(0, known)


def restrict(readable: Iterable[str], writable: Iterable[str]) -> int:
    """Leave this process the files beneath some paths, no TCP, and signals to its own kind; for good.

    Readable is executable, too; writable is all but the making of devices. A path that is not there gives nothing.
    Returns the ABI that held; `OSError` if the kernel has it and yet refuses. The process must have given up new
    privileges.
    """
    version = abi()
    if version == 0:
        return 0
    files = _files_known(version)
    ruleset = _created(version, files)
    try:
        for path in readable:
            _allow(ruleset, path, _READ & files)
        for path in writable:
            _allow(ruleset, path, files & ~(_MAKE_CHARACTER_DEVICE | _MAKE_BLOCK_DEVICE))
        _checked(_LIBC.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0)))
    finally:
        os.close(ruleset)
    return version


def _files_known(version: int) -> int:
    """All rights on files that a kernel knows; those it does not know can not be handled."""
    rights = _REFER - 1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEVICE)):
        if version >= since:
            rights |= right
    return rights


def _created(version: int, files: int) -> int:
    fields = [files]
    if version >= 4:
        fields.append(_TCP)
    if version >= 6:
        fields.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    size = ctypes.c_size_t(len(attributes))
    return _checked(_LIBC.syscall(_CREATE_RULESET, attributes, size, ctypes.c_uint(0)))


def _allow(ruleset: int, path: str, rights: int) -> None:
    with suppress(FileNotFoundError, PermissionError, NotADirectoryError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                rights &= _OF_FILES
            rule = _RULE.pack(rights, descriptor)
            _checked(
                _LIBC.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint(0))
            )
        finally:
            os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock refused: {errno.errorcode.get(code, code)}")
    return result
