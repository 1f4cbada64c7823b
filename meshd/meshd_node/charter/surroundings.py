"""What is asked of this machine so that the charter can be judged; nothing that its charter does not ask for."""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from meshd_node.charter.conditions import Conditions
from meshd_node.charter.config import CharterConfig
from meshd_node.charter.input_devices import InputDevices
from meshd_node.charter.load import OthersLoad


class Surroundings:
    """The real machine."""

    def __init__(
        self,
        folder: Path,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        root: Path = Path("/"),
    ) -> None:
        """`folder` is on the disk that is to keep some space."""
        self._folder = folder
        self._wall = wall
        self._devices = InputDevices(root, wall)
        self._load = OthersLoad(root, monotonic)

    def __call__(self, charter: CharterConfig) -> Conditions:
        """How it is now."""
        return Conditions(
            local=datetime.fromtimestamp(self._wall()),
            input_idle_s=self._devices.idle_s() if charter.idle_s else None,
            busy_cpus=self._load.busy_cpus() if charter.busy_cpus_max else None,
            disk_free_bytes=_free_bytes(self._folder) if charter.disk_free_mib else 0,
        )


def _free_bytes(folder: Path) -> int:
    """What ordinary users may still fill; a disk that does not answer has nothing."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
