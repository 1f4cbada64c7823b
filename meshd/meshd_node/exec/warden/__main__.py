"""The entry of a warden: a child of the daemon, with one end of a socket pair."""

import signal
import socket
import sys
from pathlib import Path
from typing import Final

from meshd_node.exec import offspring
from meshd_node.exec.cage.plain import Plain
from meshd_node.exec.control import ORDERS, Wire
from meshd_node.exec.warden.recipe import Recipe
from meshd_node.exec.warden.server import Warden

_END_S: Final = 1.0


def main() -> None:
    """Begin: descriptor of the daemon's socket, a folder for scratch space, the module of python workers."""
    _, descriptor, scratch, python_worker = sys.argv
    # Whoever asks the daemon to end may ask all of its processes: it drains, and then hangs up.
    for asked_to_end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked_to_end, signal.SIG_IGN)
    offspring.adopt_orphans()
    daemon = Wire(socket.socket(fileno=int(descriptor)), ORDERS)
    try:
        Warden(daemon, Plain(), Recipe(Path(scratch), python_worker)).run()
    finally:
        offspring.end_all(_END_S)


if __name__ == "__main__":
    main()
