"""A cage's scratch folder, for makers that can not mount one: a folder of the host, whose size nobody bounds."""

import os
import shutil
from contextlib import suppress
from pathlib import Path


def make(folder: Path, uid: int | None) -> None:
    """Make the folder, for one user alone."""
    folder.mkdir(0o700)
    if uid is not None:
        os.chown(folder, uid, uid)


def remove(folder: Path) -> None:
    """Remove it with all that is in it, once no process of the cage is left; what resists is left."""
    with suppress(OSError):
        _open_up(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _open_up(folder: Path) -> None:
    """Let the owner into folders that work has closed, from the outermost on; links are not followed."""
    for above, names, _ in os.walk(folder):
        for name in names:
            path = Path(above, name)
            if not path.is_symlink():
                path.chmod(0o700)
