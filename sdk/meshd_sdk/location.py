"""Where the daemon's socket is."""

import os
from pathlib import Path
from typing import Final

_OF_THE_SYSTEM: Final = Path("/run/meshd/meshd.sock")
_OF_THE_USER: Final = Path(".local/share/meshd/meshd.sock")


def socket_path(given: str | os.PathLike[str] | None = None) -> Path:
    """The path that was given, else $MESHD_SOCKET, else $MESHD_DIR/meshd.sock, else the system's, else the user's."""
    if given is not None:
        return Path(given)
    if named := os.environ.get("MESHD_SOCKET"):
        return Path(named)
    if folder := os.environ.get("MESHD_DIR"):
        return Path(folder, "meshd.sock")
    if _OF_THE_SYSTEM.exists():
        return _OF_THE_SYSTEM
    return Path.home() / _OF_THE_USER
