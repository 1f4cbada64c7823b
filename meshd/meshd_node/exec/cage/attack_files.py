"""Attacks on files: what others keep to themselves, the system, and bounds on what may be written or opened."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_BLOCK: Final = 1 << 20


def read(path: str) -> str:
    """Read what is there; how much it is says enough."""
    with open(path, "rb") as file:
        return f"read {len(file.read(4096))} bytes"


def open_to_write(path: str) -> str:
    """Open without writing: what lies there rules the whole machine."""
    os.close(os.open(path, os.O_WRONLY))
    return "opened"


def writing(folder: str, token: str) -> Callable[[], str]:
    """An attack that makes a file in a folder, and removes it."""

    def write() -> str:
        path = os.path.join(folder, f".meshd-{token}")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(path)
        return "wrote"

    return write


def open_files(allowed: int) -> str:
    """Hold twice as many descriptors as may be."""
    held: list[int] = []
    try:
        while len(held) < 2 * allowed:
            held.append(os.dup(0))
    finally:
        for descriptor in held:
            os.close(descriptor)
    return f"opened {2 * allowed}"


def fill(allowed: int) -> str:
    """Write twice what may be, in files of 1 MiB: a limit on each file is none on the folder."""
    folder = os.environ.get("TMPDIR", ".")
    made: list[str] = []
    try:
        for number in range(2 * allowed // _BLOCK):
            made.append(os.path.join(folder, str(number)))
            with open(made[-1], "wb") as file:
                file.write(bytes(_BLOCK))
    finally:
        for path in made:
            with suppress(OSError):
                os.unlink(path)
    return f"wrote {2 * allowed >> 20} MiB"
