"""What an environment consists of: every file with its digest, written when it was built, checked before it is used."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3
from msgspec import Struct

from meshd_node.environments.errors import EnvironmentRefused

SITE: Final = "site"
_CONTENTS: Final = "contents.json"
# PyTorch with all that it needs has 30,000 files.
FILES_MAX: Final = 300_000
_CONTENTS_BYTES_MAX: Final = FILES_MAX * 400


class Contents(Struct, frozen=True, forbid_unknown_fields=True):
    """`digest` is of `files`, which are paths below `site` with the digest of each; `size` is in bytes on the disk."""

    size: int
    digest: str
    files: dict[str, str]


def seal(folder: Path) -> Contents:
    """Open what was installed to all who may read here, write down what it is; refuse what is no plain file."""
    site = folder / SITE
    files: dict[str, str] = {}
    size = 0
    for opened in (folder, site):
        opened.chmod(0o755)
    for path, status in _walk(site):
        if stat.S_ISDIR(status.st_mode):
            os.chmod(path, 0o755)  # noqa: S103  # whose cage reads it may be any user
        elif stat.S_ISREG(status.st_mode) and len(files) < FILES_MAX:
            os.chmod(path, 0o755 if status.st_mode & 0o111 else 0o644)
            files[os.path.relpath(path, site)] = _digest_of(path)
            size += status.st_blocks * 512
        else:
            raise EnvironmentRefused(
                f"a package holds {os.path.relpath(path, site)!r}, which is no plain file, or over {FILES_MAX} files"
            )
    contents = Contents(size, _digest_of_all(files), files)
    (folder / _CONTENTS).write_bytes(msgspec.json.encode(contents))
    return contents


def size_of(folder: Path) -> int:
    """How much a sealed environment takes on the disk; 0 for what nobody can read."""
    contents = _read(folder)
    return 0 if contents is None else contents.size


def damage(folder: Path) -> str:
    """What is not as it was sealed; "" if nothing. Reads every byte."""
    contents = _read(folder)
    if contents is None:
        return "it was not finished"
    missing = dict(contents.files)
    site = folder / SITE
    for path, status in _walk(site):
        if stat.S_ISDIR(status.st_mode):
            continue
        name = os.path.relpath(path, site)
        if not stat.S_ISREG(status.st_mode) or missing.pop(name, "") != _digest_of(path):
            return f"{name} was changed"
    return f"{next(iter(missing))} is missing" if missing else ""


def disk_usage(folder: Path) -> int:
    """How many bytes all below a folder take; a file with several names counts once."""
    seen: set[tuple[int, int]] = set()
    size = 0
    for _, status in _walk(folder):
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            size += status.st_blocks * 512
    return size


def _read(folder: Path) -> Contents | None:
    try:
        with open(folder / _CONTENTS, "rb") as file:
            data = file.read(_CONTENTS_BYTES_MAX)
        contents = msgspec.json.decode(data, type=Contents)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return contents if contents.digest == _digest_of_all(contents.files) else None


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """All below a folder, each folder before what it holds; what vanishes meanwhile is left out."""
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                found = [(entry.path, entry.stat(follow_symlinks=False)) for entry in entries]
        except FileNotFoundError:
            continue
        waiting += [path for path, status in found if stat.S_ISDIR(status.st_mode)]
        yield from found


def _digest_of(path: str) -> str:
    return blake3().update_mmap(path).hexdigest()


def _digest_of_all(files: dict[str, str]) -> str:
    return blake3(msgspec.json.encode(sorted(files.items()))).hexdigest()
