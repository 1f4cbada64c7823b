"""What people see of the demo: steps as they are done, a bar while the mesh counts, and the story at the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from meshd_node.cli.text import size
from meshd_node.demo import run
from meshd_node.demo.findings import Findings, Lie
from meshd_node.demo.nodes import LIAR

# Lines are laid out for a terminal of 80 columns, whatever the width.
_COLUMNS: Final = 80
_TOP_COLUMNS: Final = 4
_NAME_COLUMNS: Final = 11
# Where nobody watches a bar, the job is told of in so many parts.
_PARTS: Final = 4


class Screen:
    """Prints to a terminal, or in plain lines to anything else."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out, highlight=False, width=None if out.isatty() else _COLUMNS)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        unicode = self._console.encoding.startswith("utf")
        self._mark, self._spinner = ("✓", "dots") if unicode else ("*", "line")

    def title(self) -> None:
        """Say what will be seen."""
        self._print(Text.assemble(("meshd demo", "bold"), ": four daemons on this machine, one of which lies\n"))

    @contextmanager
    def step(self, doing: str, done: str) -> Iterator[None]:
        """A spinner while something takes a moment, then a line that stays."""
        began = time.monotonic()
        with self._console.status(f"{doing} ...", spinner=self._spinner):
            yield
        self._done(done, began)

    @contextmanager
    def counting(self, total: int, done: str) -> Iterator[run.Progress]:
        """A bar while the job runs."""
        began = time.monotonic()
        if self._live:
            with self._bar() as bar:
                task = bar.add_task("counting", total=total, caught=0)
                yield lambda ended, caught: bar.update(task, completed=ended, caught=caught)
        else:
            yield self._in_parts(total)
        self._done(done, began)

    def findings(self, findings: Findings) -> None:
        """Tell what came of it all."""
        for part in (self._verdict, self._top, self._lies, self._shares, self._end):
            part(findings)
            self._print(Text())
        self._print(
            Text.assemble(
                "Next: ", ("meshd init", "bold"), " founds your own mesh, ",
                ("meshd invite", "bold"), " lets other machines join it"
            )
        )  # fmt: skip

    def _print(self, line: Text) -> None:
        # Lines are never broken for a pipe: whoever reads them looks for whole ones.
        self._console.print(line, soft_wrap=True)

    def _done(self, text: str, began: float) -> None:
        took = f"{time.monotonic() - began:.1f} s"
        self._print(Text.assemble((self._mark, "green"), f" {text}".ljust(_COLUMNS - 9), (took.rjust(8), "dim")))

    def _bar(self) -> Progress:
        return Progress(
            SpinnerColumn(self._spinner),
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("files, lies outvoted: [red]{task.fields[caught]}[/red]"),
            console=self._console,
            transient=True,
        )

    def _in_parts(self, total: int) -> run.Progress:
        told = 0

        def progress(ended: int, caught: int) -> None:
            nonlocal told
            part = ended * _PARTS // max(1, total)
            if told < part < _PARTS:
                told = part
                self._print(Text(f"  {ended} of {total} files counted, {_count(caught, 'lie')} outvoted"))

        return progress

    def _verdict(self, findings: Findings) -> None:
        if findings.agrees:
            right = f" the recount agrees: all {findings.files} results that the mesh accepted are right"
            self._print(Text.assemble((self._mark, "green"), right))
        else:
            wrong = f"! the recount DISAGREES: {findings.wrong} of {findings.files} accepted results are wrong"
            self._print(Text(wrong, "bold red"))

    def _top(self, findings: Findings) -> None:
        size_of_all = size(findings.source_bytes)
        self._print(
            Text.assemble(
                (f"The {len(findings.top)} most used identifiers", "bold"),
                f" in {findings.files} files ({size_of_all}) of Python {findings.python}'s library",
            )
        )
        rows = -(-len(findings.top) // _TOP_COLUMNS)
        for row in range(rows):
            entries = [_entry(*findings.top[at]) for at in range(row, len(findings.top), rows)]
            self._print(Text.assemble(*entries))

    def _lies(self, findings: Findings) -> None:
        lie = findings.lie
        if lie is None:
            self._print(Text(f"{LIAR} lied about none of the files that it was given"))
            return
        honest = " and ".join(lie.outvoted_by)
        columns = max(len(honest), len(LIAR))
        self._print(
            Text.assemble(
                (f"{LIAR} lied", "bold red"), f" about {_count(findings.lies, 'file')}; about {lie.file}, for one:"
            )
        )
        self._print(Text.assemble("  ", (LIAR.ljust(columns), "red"), "  ", _claim("says", lie, lie.claimed, "red")))
        self._print(
            Text.assemble(
                "  ", honest.ljust(columns), "  ", _claim("say", lie, lie.accepted, "green"), ", and outvoted it"
            )
        )
        wrong = f"{_count(findings.wrong, 'wrong result')} accepted"
        self._print(
            Text.assemble(
                f"{_count(findings.lies, 'lie')} outvoted, ", (wrong, "bold red" if findings.wrong else "bold green")
            )
        )

    def _shares(self, findings: Findings) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
        table.add_column("node")
        for column in ("results", "accepted", "outvoted", "share"):
            table.add_column(column, justify="right")
        for share in findings.shares:
            sent = share.accepted + share.outvoted
            table.add_row(
                Text(share.name, "red" if share.liar else ""),
                str(sent),
                str(share.accepted),
                Text(str(share.outvoted), "red" if share.outvoted else "dim"),
                f"{sent / max(1, findings.results):.0%}",
            )
        self._console.print(table)

    def _end(self, findings: Findings) -> None:
        speed = f"{findings.files / findings.job_s:.0f} files/s, {findings.results / findings.job_s:.0f} results/s"
        self._print(Text(f"{findings.files} files in {findings.job_s:.1f} s: {speed}"))
        self._print(Text(f"the whole demo took {findings.total_s:.1f} s; its daemons and their folders are gone"))


def _entry(name: str, count: int) -> Text:
    cut = name if len(name) <= _NAME_COLUMNS else name[: _NAME_COLUMNS - 3] + "..."
    return Text.assemble("  ", (cut.ljust(_NAME_COLUMNS), "cyan"), f"{count:>7,}")


def _claim(verb: str, lie: Lie, count: int, style: str) -> Text:
    return Text.assemble(f"{verb:<5}", (lie.identifier, "cyan"), " occurs ", (f"{count:,}", style), " times")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class Silent:
    """For programs: they read the findings."""

    @contextmanager
    def step(self, doing: str, done: str) -> Iterator[None]:
        """Nothing is shown."""
        yield

    @contextmanager
    def counting(self, total: int, done: str) -> Iterator[run.Progress]:
        """Nothing is shown."""
        yield lambda ended, caught: None
