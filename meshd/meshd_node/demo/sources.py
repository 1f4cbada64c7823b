"""What the demo counts in: every source of this interpreter's standard library, its tests left out."""

import os
import platform
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd_node.demo.errors import DemoFailed

_LEFT_OUT: Final = frozenset(("test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"))
_HINT: Final = "install Python with its standard library: on Debian, `apt install libpython3-stdlib`"


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path below the library, and its text."""

    name: str
    text: str


def standard_library(root: Path | None = None) -> list[Source]:
    """Read all of it, in the order of the names; raise `DemoFailed` if this Python does not have it as files."""
    root = root or Path(sysconfig.get_path("stdlib"))
    paths = sorted(_paths(root))
    if not paths:
        raise DemoFailed(f"Python {platform.python_version()} has no sources of its standard library in {root}", _HINT)
    return [Source(str(path.relative_to(root)), _read(path)) for path in paths]


def _paths(root: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in _LEFT_OUT]
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def _read(path: Path) -> str:
    """A source as text; a byte that is no UTF-8 counts as no letter."""
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError as error:
        raise DemoFailed(f"can not read {path}: {error.strerror}", _HINT) from error
