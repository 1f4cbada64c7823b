"""What comes of the runs of a command: printed and saved as they end, and told by an exit code."""

import errno
import shlex
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Final

from msgspec import Struct

from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.cli.text import printable
from meshd_protocol.programs import ProgramFailed, ProgramNotFound
from meshd_sdk.commands import CommandResult
from meshd_sdk.errors import MeshError, UnitTimedOut
from meshd_sdk.templates import fill

_SIGNALLED: Final = 128
# The folder is fine, and what is below it is not.
_DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
# Of a command, where it is named.
_SHOWN: Final = 60


class Order(Struct, frozen=True, kw_only=True):
    """What was asked for."""

    argv: tuple[str, ...]
    each: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    to: str = "."
    stdin: str = ""
    env: tuple[str, ...] = ()
    in_order: bool = False


class Runs:
    """What has come of the runs."""

    def __init__(self, output: Output, order: Order) -> None:
        self._output = output
        self._order = order
        self.paths: list[str] = []
        self._waiting: dict[int, Future[CommandResult]] = {}
        self._printed = 0
        self._done = 0
        self._codes: list[int] = []
        self._unsaved = Exit.OK
        self._written: dict[Path, str] = {}

    def ended(self, number: int, future: Future[CommandResult]) -> None:
        """Tell of one, or keep it until its turn."""
        self._done += 1
        if not self._order.in_order:
            self._tell(number, future)
        else:
            self._waiting[number] = future
            while (turn := self._waiting.pop(self._printed, None)) is not None:
                self._tell(self._printed, turn)
                self._printed += 1
        if self._order.each:
            failed = sum(map(bool, self._codes))
            self._output.progress(
                f"{self._done} of {len(self._order.each)} done" + (f", {failed} failed" if failed else "")
            )

    def _tell(self, number: int, future: Future[CommandResult]) -> None:
        path = self.paths[number]
        try:
            result = future.result()
        except CancelledError:
            self._fail(path, "it was cancelled", Exit.NO_RESULT)
        except ProgramNotFound as error:
            self._fail(path, str(error), Exit.PROGRAM_NOT_FOUND)
        except UnitTimedOut as error:
            program = printable(shlex.join(self._order.argv)[:_SHOWN])
            self._fail(path, f"{program}: {error}, and was ended: --timeout says how long it may run", Exit.TIMED_OUT)
        except (MeshError, ProgramFailed) as error:
            self._fail(path, str(error), Exit.NO_RESULT)
        else:
            self._output.data(result.stdout, result.stderr)
            code = result.exit_code if result.exit_code >= 0 else _SIGNALLED - result.exit_code
            if code and path:
                self._output.note(f"meshd: {printable(path)}: exit code {code}")
            self._codes.append(self._save(path, result) or code)

    def _save(self, path: str, result: CommandResult) -> int:
        """Write its files; nonzero if one could not be, or one of another run is in the way."""
        folder = Path(fill(self._order.to, path) if path else self._order.to)
        for name in result.files:
            other = self._written.setdefault((folder / name).resolve(), path)
            if other != path:
                self._output.note(
                    f"meshd: {printable(path)} and {printable(other)} both left {printable(name)}: "
                    "have a folder for each, such as --to 'out/{}'"
                )
                return Exit.CANT_CREATE
        try:
            result.save(folder)
        except OSError as error:
            self._output.note(f"meshd: {printable(str(error.filename))}: {error.strerror}: its result is lost")
            self._unsaved = Exit.IO if error.errno in _DISK_ERRORS else Exit.CANT_CREATE
            return self._unsaved
        return 0

    def _fail(self, path: str, text: str, code: Exit) -> None:
        self._output.note(f"meshd: {printable(path)}: {text}" if path else f"meshd: {text}")
        self._codes.append(code)

    def exit_code(self) -> int:
        """As xargs says it for many commands; one command's own."""
        self._output.progress("")
        if not self._order.each:
            return self._codes[0]
        for code in (Exit.PROGRAM_NOT_FOUND, Exit.NO_RESULT, Exit.TIMED_OUT):
            if code in self._codes:
                return code
        return self._unsaved or (Exit.SOME_FAILED if any(self._codes) else Exit.OK)
