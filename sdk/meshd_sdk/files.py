"""A file that comes back is written in full or not at all."""

import os
import secrets
from contextlib import suppress


def write_file(path: str, data: bytes) -> None:
    """Write a file over the one that is there, by way of a temporary name beside it.

    Raise `OSError` that names the path: the system names none when a disk is full.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            _write(path, data, os.O_TRUNC)  # a device or a pipe is written to, not replaced; a folder is refused
        else:
            _replace(os.path.realpath(path), data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _replace(path: str, data: bytes) -> None:
    temporary = os.path.join(os.path.dirname(path), f".meshd-{secrets.token_hex(8)}")
    try:
        _write(temporary, data, os.O_CREAT | os.O_EXCL)
        with suppress(FileNotFoundError):
            os.chmod(temporary, os.stat(path).st_mode)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _write(path: str, data: bytes, flags: int) -> None:
    with open(os.open(path, os.O_WRONLY | flags, 0o666), "wb") as file:
        file.write(data)
