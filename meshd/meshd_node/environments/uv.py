"""The installer: where `uv` is, and what it is told. It comes with this package; one in PATH will do as well."""

import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from meshd_node.environments.config import EnvironmentsConfig
from meshd_node.environments.errors import EnvironmentRefused

# How the daemon reaches the network; nothing else of its environment is told to the installer.
_NETWORK: Final = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT"}
)

# As many threads and processes as a service may have, not as a machine has cores.
_THREADS: Final = {"UV_CONCURRENT_DOWNLOADS": "8", "UV_CONCURRENT_INSTALLS": "4", "TOKIO_WORKER_THREADS": "4"}


def find_uv() -> Path:
    """The program; raise `EnvironmentRefused` where there is none."""
    with suppress(ImportError, FileNotFoundError):  # UvNotFound is the latter
        from uv import find_uv_bin  # noqa: PLC0415  # most daemons never build anything

        return Path(find_uv_bin())
    found = shutil.which("uv")
    if found is None:
        raise EnvironmentRefused("this node has no uv to build environments with: pip install uv there")
    return Path(found)


def install_command(uv: Path, requirements: Path, site: Path, cache: Path, config: EnvironmentsConfig) -> list[str]:
    """Install what a file pins, and nothing else, into a folder: wheels with the hashes that it has.

    Nothing that is installed runs: neither build scripts, for there are only wheels, nor what a wheel says should run
    when the interpreter starts, for this folder is none of its own. Cages can not write bytecode: it is compiled now.
    """
    return [
        str(uv), "pip", "install",
        "--python", sys.executable, "--no-python-downloads", "--no-config",
        "--target", str(site), "--cache-dir", str(cache),
        "--require-hashes", "--no-deps", "--only-binary", ":all:",
        "--compile-bytecode", "--no-progress", "--color", "never",
        *_places(config),
        "--requirements", str(requirements),
    ]  # fmt: skip


def clean_environment(home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What the installer is told of the daemon's surroundings."""
    network = {name: value for name, value in environ.items() if name.upper() in _NETWORK}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": str(home), **_THREADS, **network}


def _places(config: EnvironmentsConfig) -> list[str]:
    places = [option for place in config.find_links for option in ("--find-links", place)]
    if config.offline:
        return [*places, "--offline", "--no-index"]
    return [*places, *(["--default-index", config.index_url] if config.index_url else [])]
