"""Requirements become a lock, here and once: which versions, and which files they have.

Spec: 16-environments.md.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from meshd_protocol.locks import Lock
from meshd_sdk.errors import MeshError

# What a resolver may take: it downloads what packages say of themselves, not the packages.
_RESOLVE_S: Final = 300
_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
# A part of the key under which a lock is kept: raised when it is made in another way.
_EDITION: Final = "meshd/lock/1"


class RequirementsError(MeshError, ValueError):
    """No lock can be made of the requirements; the text is the resolver's."""


def lock_of(requirements: str | os.PathLike[str] | Sequence[str]) -> bytes:
    """The lock of requirements (a file's path, or lines such as "numpy>=2"), for this version of Python.

    All platforms are locked at once, and wheels only: nodes build nothing. Made by `uv pip compile` with the settings
    that uv has here (UV_INDEX_URL and others), and kept in ~/.cache/meshd/locks: the same text has the same lock from
    then on, unless it names other files. Raise `RequirementsError` for what can not be had, `ValueError` for what is no
    requirement.
    """
    text = _text_of(requirements)
    if not text.strip():
        return b""
    place = _place_of(text)
    with suppress(OSError, ValueError), open(place, encoding="ascii") as kept:
        return Lock.parse(kept.read()).encode()
    lock = _resolve(text, _folder_of(requirements))
    # What names other files may mean something else tomorrow.
    if not any(line.lstrip().startswith("-") for line in text.splitlines()):
        with suppress(OSError):
            _keep(place, lock)
    return lock


def _text_of(requirements: str | os.PathLike[str] | Sequence[str]) -> str:
    if isinstance(requirements, str | os.PathLike):
        with open(requirements, encoding="utf-8") as file:
            return file.read()
    lines = list(requirements)
    for line in lines:
        if not isinstance(line, str) or "\n" in line or line.lstrip().startswith("-"):
            raise ValueError(f'requirements are a file, or a list of texts such as "numpy>=2", not {line!r}')
    return "".join(f"{line}\n" for line in lines)


def _folder_of(requirements: str | os.PathLike[str] | Sequence[str]) -> str:
    """Where a file's own references begin."""
    if isinstance(requirements, str | os.PathLike):
        return os.path.dirname(os.path.abspath(requirements))
    return os.getcwd()


def _place_of(text: str) -> str:
    """Where the lock of these requirements is kept. Where uv looks for packages is a part of what is asked."""
    settings = sorted((name, value) for name, value in os.environ.items() if name.startswith("UV_"))
    key = hashlib.sha256(repr((_EDITION, _PYTHON, text, settings)).encode()).hexdigest()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = cache if os.path.isabs(cache) else os.path.expanduser("~/.cache")
    return os.path.join(base, "meshd", "locks", f"{key}.txt")


def _keep(place: str, lock: bytes) -> None:
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(place), delete=False) as file:
        file.write(lock)
    os.replace(file.name, place)


def _resolve(text: str, folder: str) -> bytes:
    command = [
        _find_uv(), "pip", "compile", "-",
        "--universal", "--python-version", _PYTHON, "--only-binary", ":all:",
        "--generate-hashes", "--strip-extras", "--no-header", "--no-annotate", "--quiet", "--color", "never",
    ]  # fmt: skip
    try:
        done = subprocess.run(  # noqa: S603  # no shell
            command, input=text, cwd=folder, capture_output=True, text=True, timeout=_RESOLVE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RequirementsError(f"uv found no versions for the requirements within {_RESOLVE_S} s") from error
    if done.returncode:
        raise RequirementsError(f"the requirements can not be locked for Python {_PYTHON}:\n{done.stderr.strip()}")
    try:
        return Lock.parse(done.stdout).encode()
    except ValueError as error:
        raise RequirementsError(
            f"the requirements can not be locked: {error}. Nodes install wheels from their index only: no paths, "
            "addresses or repositories"
        ) from error


def _find_uv() -> str:
    with suppress(ImportError, FileNotFoundError):  # UvNotFound is the latter
        from uv import find_uv_bin  # noqa: PLC0415  # loaded by those that lock something

        return str(find_uv_bin())
    found = shutil.which("uv")
    if found is None:
        raise RequirementsError("locking requirements takes uv: pip install uv")
    return found
