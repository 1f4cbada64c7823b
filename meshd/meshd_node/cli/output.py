"""What the verbs print: results on standard output, everything else on standard error."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Final, TextIO

from meshd_node.cli.text import printable

# Wide enough for every listing when the output is not a terminal, where there is no width to wrap at.
_PIPE_COLUMNS = 200
_STYLES: Final = {"bold": 1, "dim": 2}


class ReaderGone(Exception):
    """Whoever reads our output has enough. A name of ours, since click and rich end the process at a broken pipe."""


class Output:
    """Where a verb prints."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr

    @property
    def width(self) -> int | None:
        """How wide the terminal is; None where the output is none."""
        return self.size[0] if self._out.isatty() else None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal."""
        return shutil.get_terminal_size()

    def styled(self, style: str, text: str) -> str:
        """The text, dim or bold where that can be seen and nobody minds (no-color.org)."""
        if not self._out.isatty() or os.environ.get("NO_COLOR"):
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"

    def line(self, text: str) -> None:
        """Print a result."""
        try:
            print(text, file=self._out, flush=True)
        except BrokenPipeError as error:
            raise ReaderGone from error

    def note(self, text: str) -> None:
        """Print something for the person, which a pipe does not want."""
        print(text, file=self._err, flush=True)

    def data(self, out: bytes, err: bytes) -> None:
        """Print what a command on some node said, as it said it."""
        self.progress("")
        for stream, data in ((self._out, out), (self._err, err)):
            stream.flush()
            try:
                stream.buffer.write(data)
                stream.buffer.flush()
            except BrokenPipeError as error:
                raise ReaderGone from error

    def progress(self, text: str) -> None:
        """Show how far something is, in place of what was shown before; on a terminal only."""
        if self._err.isatty():
            print(f"\r\x1b[K{text}", end="", file=self._err, flush=True)

    def json(self, value: object) -> None:
        """Print a result for programs."""
        self.line(json.dumps(value, indent=2))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a listing for people. The first column is never cut."""
        # Here, since most verbs print no table, and a daemon none ever: rich takes 50 ms and 5 MB.
        from rich.console import Console  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415

        width = None if self._out.isatty() else _PIPE_COLUMNS
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column, no_wrap=number == 0, overflow="fold")
        for row in rows:
            table.add_row(*map(printable, row))
        console = Console(file=self._out, width=width, highlight=False, markup=False)
        # Captured, since rich itself would end the process at a broken pipe.
        with console.capture() as captured:
            console.print(table)
        self.line(captured.get().rstrip("\n"))
