"""Where a node's folder, its local socket and its warden's are."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshd_node.errors import ConfigError

# `sun_path` has 108 bytes, the last of which is 0.
SOCKET_PATH_BYTES_MAX: Final = 107
SYSTEM_FOLDER: Final = Path("/var/lib/meshd")


def node_folder(environ: Mapping[str, str], uid: int) -> Path:
    """$MESHD_DIR, else /var/lib/meshd for root, else `meshd` among the user's own data."""
    if given := environ.get("MESHD_DIR"):
        return Path(given).absolute()
    if uid == 0:
        return SYSTEM_FOLDER
    data = environ.get("XDG_DATA_HOME", "")
    if Path(data).is_absolute():  # others are to be ignored, by the XDG specification
        return Path(data) / "meshd"
    home = environ.get("HOME", "")
    if not Path(home).is_absolute():
        raise ConfigError("there is no folder for this node: HOME is not set", "set MESHD_DIR to a folder")
    return Path(home) / ".local/share/meshd"


def socket_path(folder: Path, environ: Mapping[str, str]) -> Path:
    """$MESHD_SOCKET, else `meshd.sock` in the node's folder; raise `ConfigError` where no socket can be."""
    given = environ.get("MESHD_SOCKET")
    return _checked(Path(given).absolute() if given else folder / "meshd.sock", "MESHD_SOCKET")


def warden_path(environ: Mapping[str, str]) -> Path | None:
    """$MESHD_WARDEN: where a service listens that makes cages; None where the daemon starts a warden of its own."""
    given = environ.get("MESHD_WARDEN")
    return _checked(Path(given).absolute(), "MESHD_WARDEN") if given else None


def credentials_folder(environ: Mapping[str, str]) -> Path | None:
    """$CREDENTIALS_DIRECTORY: what systemd hands over to this service alone (systemd.exec(5), Credentials)."""
    given = environ.get("CREDENTIALS_DIRECTORY", "")
    return Path(given) if given.startswith("/") else None


def _checked(path: Path, variable: str) -> Path:
    size = len(os.fsencode(path))
    if size > SOCKET_PATH_BYTES_MAX:
        raise ConfigError(
            f"the socket's path {path} has {size} bytes, the system allows {SOCKET_PATH_BYTES_MAX}",
            f"set {variable} to a shorter path",
        )
    return path
