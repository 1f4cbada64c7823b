"""Where the daemon's socket is."""

import os
from collections.abc import Iterator
from typing import Final

_NAME: Final = "meshd.sock"
# Where systemd's unit has it, and where a daemon that root started by hand has it.
_OF_THE_SYSTEM: Final = ("/run/meshd/meshd.sock", "/var/lib/meshd/meshd.sock")


def socket_path(given: str | os.PathLike[str] | None = None) -> str:
    """The path that was given, else $MESHD_SOCKET, else $MESHD_DIR/meshd.sock, else the user's own or the system's.

    Of the last two the first that exists; if none does, the one where `meshd up` would make it.
    """
    if given is not None:
        return os.fspath(given)
    if named := os.environ.get("MESHD_SOCKET"):
        return named
    if folder := os.environ.get("MESHD_DIR"):
        return os.path.join(folder, _NAME)
    candidates = list(_candidates())
    # os.path: a folder that this user may not enter is no place, and no error.
    return next((path for path in candidates if os.path.exists(path)), candidates[0])


def _candidates() -> Iterator[str]:
    if os.getuid() != 0:
        data = os.environ.get("XDG_DATA_HOME", "")
        own = data if os.path.isabs(data) else os.path.expanduser("~/.local/share")
        yield os.path.join(own, "meshd", _NAME)
    yield from reversed(_OF_THE_SYSTEM)
