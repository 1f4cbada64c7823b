"""The entry of a warden: a child of the daemon, with one end of a socket pair."""

import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from meshd_node.exec import offspring
from meshd_node.exec.cage.cgroups import Cgroups
from meshd_node.exec.cage.makers import makers
from meshd_node.exec.cage.spec import Maker
from meshd_node.exec.control import ORDERS, Wire
from meshd_node.exec.warden.recipe import Recipe
from meshd_node.exec.warden.server import Warden

_END_S: Final = 1.0


def main() -> None:
    """Begin: descriptor of the daemon's socket, a folder for scratch space, the module of python workers, a maker."""
    _, descriptor, scratch, python_worker, maker = sys.argv
    # Whoever asks the daemon to end may ask all of its processes: it drains, and then hangs up.
    for asked_to_end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked_to_end, signal.SIG_IGN)
    offspring.adopt_orphans()
    daemon = Wire(socket.socket(fileno=int(descriptor)), ORDERS)
    with _fresh_folder(Path(scratch)) as folder:
        try:
            Warden(daemon, _candidates(maker), Cgroups.find(), Recipe(folder, python_worker)).run()
        finally:
            offspring.end_all(_END_S)


@contextmanager
def _fresh_folder(folder: Path) -> Iterator[Path]:
    """A folder that others may pass through, without what a warden that was killed has left there; gone in the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _candidates(wanted: str) -> Sequence[Maker]:
    """The maker of this name, or all for none."""
    chosen = [maker for maker in makers() if wanted in ("", maker.name)]
    assert chosen, f"there is no maker {wanted} here"
    return chosen


if __name__ == "__main__":
    main()
