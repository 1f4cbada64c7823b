"""Keeps the charter as its file says and judges it by the time, the users and the load of this machine."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import trio

from meshd_node.charter.conditions import Conditions, why_closed
from meshd_node.charter.config import CharterConfig
from meshd_node.errors import ConfigError
from meshd_node.log import log

# How late a change of the file, of the hour or of who sits at the keyboard is noticed.
LOOK_S: Final = 2.0

_Mark = tuple[int, int, int] | None


class CharterWatch:
    """The charter that holds now. A file that can not be used changes nothing, and is `fault`."""

    def __init__(
        self,
        charter: CharterConfig,
        file: Path,
        read: Callable[[], CharterConfig],
        conditions: Callable[[CharterConfig], Conditions],
        on_change: Callable[[], None],
    ) -> None:
        """`read` reads the file anew and raises `ConfigError`; `on_change` is called after whatever changed."""
        self.charter = charter
        self.closed = why_closed(charter, conditions(charter))
        self.fault = ""
        self._file = file
        self._read = read
        self._conditions = conditions
        self._on_change = on_change
        self._mark = _mark(file)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Look now and then, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(LOOK_S)
            mark = _mark(self._file)
            if mark == self._mark:
                self._judge(self.charter)
            else:
                self.reload()

    def reload(self) -> str:
        """Read the file now; return what is wrong with it, or ""."""
        self._mark = _mark(self._file)
        try:
            charter = self._read()
        except ConfigError as error:
            self.fault = str(error)
            log.error("charter_refused", reason=self.fault, until_then="the charter before it holds")
            self._judge(self.charter)
            return self.fault
        self.fault = ""
        self._judge(charter)
        return ""

    def _judge(self, charter: CharterConfig) -> None:
        before = (self.charter, self.closed)
        closed = why_closed(charter, self._conditions(charter))
        if before == (charter, closed):
            return
        if charter != self.charter:
            log.info("charter_changed", changed=", ".join(_changed(self.charter, charter)))
        if closed != self.closed:
            log.info("charter_judged", open_to_others=not closed, reason=closed)
        self.charter, self.closed = charter, closed
        self._on_change()


def _mark(file: Path) -> _Mark:
    """What changes with a file's content, however it was written. None without a file."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _changed(old: CharterConfig, new: CharterConfig) -> list[str]:
    return [key for key in CharterConfig.__dataclass_fields__ if getattr(old, key) != getattr(new, key)]
