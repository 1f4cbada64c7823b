"""Private files: mode 0600, and after a crash at any moment either as they were or as they were to be."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from meshd_node.identity.errors import AlreadyANode, FolderForbidden, FolderMissing, FolderUnusable

# Nothing here is larger than a chain of two certificates in PEM (5 KiB).
FILE_BYTES_MAX: Final = 64 << 10


def make_private_folder(path: Path) -> None:
    """Make the folder with mode 0700 unless it is there."""
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)


def read_private(path: Path) -> bytes | None:
    """Read a small secret; None if it is not there. Refuse one that other users can read or write."""
    with _telling(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & 0o077:
                raise FolderForbidden(f"other users can read {path} (mode {mode:04o})", f"chmod 600 {path}")
            return file.read(FILE_BYTES_MAX)


def replace_private(path: Path, data: bytes) -> None:
    """Write a file in the place of what is there."""
    with _telling(path), _written_beside(path, data) as temporary:
        temporary.replace(path)
        _sync_folder(path.parent)


def create_private(path: Path, data: bytes) -> None:
    """Write a file that must not be there yet: of two who create it, one gets `AlreadyANode`."""
    with _telling(path), _written_beside(path, data) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError as error:
            raise AlreadyANode(f"{path} is there already", "choose another folder with MESHD_DIR") from error
        temporary.unlink()
        _sync_folder(path.parent)


def make_private_file(path: Path) -> None:
    """Make an empty file for others to fill, unless it is there: theirs would be made with a wider mode."""
    with _telling(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


@contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sync_folder(path: Path) -> None:
    # A rename is on the disk when its folder is.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise FolderForbidden(
            f"no permission to use {path}", "run as the user that owns the folder, or set MESHD_DIR"
        ) from error
    except FileNotFoundError as error:
        raise FolderMissing(f"{path.parent} does not exist", "make it, or choose another place") from error
    except OSError as error:
        raise FolderUnusable(f"can not use {path}: {error.strerror}", "set MESHD_DIR to a usable folder") from error
