"""The folder that one command runs in: its inputs are written there, its outputs read back, then it is removed.

What is in it was left by a program that may want to be read what it can not read itself: nothing is followed.
"""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

from meshd_node.exec.runtimes.outputs import Budget
from meshd_protocol.programs import File, OutputTooLarge, ProgramFailed
from meshd_protocol.wanted import Wanted

# How much is looked through for patterns of outputs.
_DEPTH_MAX: Final = 64
_ENTRIES_MAX: Final = 1_000_000
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a pipe would wait for a writer.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """An empty folder of this name, and nothing of it left after.

    The name is the same for all units: a program that prints where it is prints the same on its replicas.
    """
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        _remove(folder)


def write_inputs(folder: Path, files: Iterable[File]) -> None:
    """Write the files of a unit, whose paths were checked."""
    for file in files:
        path = folder / file.path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = 0o700 if file.executable else 0o600
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
            with open(descriptor, "wb") as written:
                written.write(file.data)
        except OSError as error:
            raise ProgramFailed(f"the input {file.path!r} can not be written: {error.strerror}") from error


def read_outputs(folder: Path, wanted: Wanted, budget: Budget) -> dict[str, bytes]:
    """The wanted files, as far as they are regular ones; raise `OutputTooLarge` before too much is read."""
    found: dict[str, bytes] = {}
    with _opened(os.open(folder, _FOLDER)) as root:
        for path in wanted.exact:
            _read_into(found, root, path, path, budget)
        if wanted.has_patterns:
            seen = count(1)
            for parent, prefix, name in _walk(root, "", 0, seen):
                if wanted.fits(prefix + name) and prefix + name not in found:
                    _read_into(found, parent, name, prefix + name, budget)
    return dict(sorted(found.items()))


def _walk(folder: int, prefix: str, depth: int, seen: "count[int]") -> Iterator[tuple[int, str, str]]:
    """Every regular file below: the open folder it is in, that folder's path, its name."""
    with closing(os.scandir(folder)) as entries:
        for entry in entries:
            if next(seen) > _ENTRIES_MAX or depth > _DEPTH_MAX:
                raise OutputTooLarge(
                    f"more than {_ENTRIES_MAX} files, or {_DEPTH_MAX} nested folders, to look through for outputs: "
                    "name the files, or remove what is not wanted"
                )
            if entry.is_file(follow_symlinks=False):
                yield folder, prefix, entry.name
            elif entry.is_dir(follow_symlinks=False):
                try:
                    below = os.open(entry.name, _FOLDER, dir_fd=folder)
                except OSError:
                    continue  # one that the program itself closed
                with _opened(below):
                    yield from _walk(below, f"{prefix}{entry.name}/", depth + 1, seen)


def _read_into(found: dict[str, bytes], folder: int, name: str, path: str, budget: Budget) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ProgramFailed(f"an output has a name that is no UTF-8: {path!r}") from error
    descriptor = _open_below(folder, name)
    if descriptor is None:
        return
    with _opened(descriptor):
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        budget.take(len(path.encode()) + status.st_size, f"the output {path!r} of {status.st_size} bytes")
        # It does not grow: whatever could write to it has ended, and if not, no more is read.
        with open(descriptor, "rb", closefd=False) as file:
            found[path] = file.read(status.st_size)


def _open_below(folder: int, path: str) -> int | None:
    """Open what this path names without following a link at any step; None if it is not there or is one."""
    *parents, name = path.split("/")
    opened = [folder]
    try:
        for parent in parents:
            opened.append(os.open(parent, _FOLDER, dir_fd=opened[-1]))
        return os.open(name, _FILE, dir_fd=opened[-1])
    except OSError:
        return None
    finally:
        for descriptor in opened[1:]:
            os.close(descriptor)


@contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove it; what can not be removed is moved out of the next unit's way, and ends with the cage."""
    with suppress(OSError, RecursionError):
        shutil.rmtree(folder)
    if not folder.exists():
        return
    # Folders that their program closed, or nested by the thousand.
    for arguments in (["/bin/chmod", "-R", "u+rwX"], ["/bin/rm", "-rf"]):
        with suppress(OSError):
            subprocess.run([*arguments, "--", folder], check=False, capture_output=True)  # noqa: S603
    if folder.exists():
        folder.rename(tempfile.mkdtemp(prefix="left-", dir=folder.parent))
