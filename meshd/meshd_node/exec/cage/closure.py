"""What of the host an interpreter needs to see: nobody's home, no key, no socket, no data of other software."""

import os
import site
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import meshd_node
import meshd_protocol

# /usr holds programs and libraries for everybody. The others are links into it, or folders of the same on systems that
# keep them apart. Of /etc: where libraries are (Debian's BLAS is a link through the alternatives), no names, no keys.
# Of /sys: processors and their memory, for which numerical libraries look.
_PROGRAMS: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SETTINGS: Final = ("/etc/ld.so.cache", "/etc/alternatives", "/sys/devices/system/cpu", "/sys/devices/system/node")
_SYSTEM: Final = tuple(map(Path, (*_PROGRAMS, *_SETTINGS)))


def closure(environment: Path | None = None) -> tuple[Path, ...]:
    """Paths that this interpreter, its packages, this program and an environment folder consist of; see `CageSpec`."""
    paths = [*_SYSTEM, *_interpreter(), *_packages(), *_mapped_files()]
    if environment is not None:
        paths.append(environment)
    # What a link leads to is needed as much as the link.
    there = {Path(os.path.abspath(path)) for path in paths} | {path.resolve() for path in paths}
    return outermost(path for path in there if path.exists())


def outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The paths that lie in no other one, in order."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not any(path.is_relative_to(parent) for parent in kept):
            kept.append(path)
    return tuple(kept)


def folders_above(paths: Iterable[Path]) -> list[Path]:
    """All folders on the way to the paths but the root, each before what it holds."""
    return sorted({folder for path in paths for folder in path.parents if folder != Path("/")})


def closed_to_others(paths: Iterable[Path]) -> Path | None:
    """The first path that a user of no group can not come to, because of a folder on the way or of itself."""
    return next((path for path in paths if not _open_to_all(path)), None)


def _open_to_all(path: Path) -> bool:
    try:
        readable = path.stat().st_mode & 0o004
        return bool(readable) and all(folder.stat().st_mode & 0o001 for folder in path.parents)
    except OSError:
        return False


def _interpreter() -> list[Path]:
    """The program with all links that lead to it, its library and the virtual environment around it."""
    hops = [Path(sys.executable)]
    while hops[-1].is_symlink() and len(hops) < 40:
        hops.append(Path(os.path.abspath(hops[-1].parent / hops[-1].readlink())))
    return [*hops, Path(sys.base_prefix), Path(sys.base_exec_prefix), Path(sys.prefix)]


def _packages() -> list[Path]:
    """Folders of installed packages, and those of this program's where it is installed as it is edited.

    An interpreter looks for a package in a list of what is beside it; where it may not have that list there is none.
    """
    ours = [Path(package).parents[1] for package in (meshd_node.__file__, meshd_protocol.__file__) if package]
    installed = [Path(entry) for entry in sys.path if Path(entry).name in {"site-packages", "dist-packages"}]
    return [*ours, *installed, *map(Path, site.getsitepackages())]


def _mapped_files() -> list[Path]:
    """Libraries that this process has loaded, wherever they lie: some systems have no /usr to speak of."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        names = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if line.count(" /") == 1 and ".so" in line}
    return [Path(name) for name in names if name.startswith("/") and not name.endswith(" (deleted)")]
