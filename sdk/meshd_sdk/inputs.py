"""Files of a unit, as users name them: read here, checked before anything is sent."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from meshd_protocol.limits import FILES_MAX, UNIT_BYTES_MAX
from meshd_protocol.programs import File, check_path

FilePath: TypeAlias = str | os.PathLike[str]
# Paths of files and folders, each under its own name; or names, with a path or with bytes.
Inputs: TypeAlias = Mapping[str, FilePath | bytes] | Iterable[FilePath]

_EXECUTABLE: Final = 0o100


def read_inputs(inputs: Inputs) -> tuple[File, ...]:
    """Read them. Raise `OSError` for what can not be read, `ValueError` for what can not be sent."""
    if isinstance(inputs, str | bytes | os.PathLike):
        raise TypeError(f"inputs are a list of paths or a mapping, not {inputs!r}: write [{inputs!r}]")
    files: list[File] = []
    size = 0
    for name, content in _named(inputs):
        for file in _read(name, content, UNIT_BYTES_MAX - size):
            size += len(file.data)
            files.append(file)
            if len(files) > FILES_MAX:
                raise ValueError(f"the inputs are more than {FILES_MAX} files: pack them into an archive")
    return tuple(files)


def look_at(path: FilePath) -> None:
    """Raise what reading it would, as far as a look at it tells: nothing is opened, for it may be a pipe."""
    name_on_node(path)
    status = os.stat(path)
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    if not stat.S_ISDIR(status.st_mode):
        check_size(os.fspath(path), status.st_size)


def name_on_node(path: FilePath) -> str:
    """Where a file lies in the folder of the command: at its relative path, or under its own name alone."""
    text = os.fspath(path)
    relative = os.path.normpath(text)
    if os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir:
        relative = os.path.basename(os.path.abspath(text))
    check_path(relative)
    return relative


def _named(inputs: Inputs) -> Iterator[tuple[str, FilePath | bytes]]:
    if isinstance(inputs, Mapping):
        yield from inputs.items()
    else:
        for path in inputs:
            yield "" if os.path.normpath(path) == os.curdir else name_on_node(path), path


def _read(name: str, content: FilePath | bytes, room: int) -> Iterator[File]:
    if isinstance(content, bytes):
        check_size(name, len(content), room)
        yield File(name, content)
    elif os.path.isdir(content):
        for folder, folders, names in os.walk(content):
            folders.sort()
            for each in sorted(names):
                path = os.path.join(folder, each)
                if not os.path.isfile(path):
                    continue  # a socket, a pipe, a link to nothing
                file = _file(os.path.normpath(os.path.join(name, os.path.relpath(path, content))), path, room)
                room -= len(file.data)
                yield file
    else:
        yield _file(name, content, room)


def _file(name: str, path: FilePath, room: int) -> File:
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        check_size(name, status.st_size, room)
        data = file.read(room + 1)
    check_size(name, len(data), room)
    return File(name, data, bool(status.st_mode & _EXECUTABLE))


def check_size(name: str, size: int, room: int = UNIT_BYTES_MAX) -> None:
    """Raise `ValueError` if a file is more than may travel with one unit."""
    if size > room:
        raise ValueError(
            f"{name!r} of {size:,} bytes is too large: the files of one unit may have {UNIT_BYTES_MAX:,} bytes "
            "together. Split it, or put it where the nodes can read it"
        )
