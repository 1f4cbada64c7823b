"""Listings of thousands of rows: fitted to the width of a terminal by leaving columns out, and written fast.

Rich wraps cells and takes over a second for a thousand rows of thirteen; this takes milliseconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

RowT = TypeVar("RowT")
_GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Column(Generic[RowT]):
    """One column. Of those that do not fit, the one of the highest `rank` is left out first; 0 always stays.

    `right`: its cells end below each other, as figures do.
    """

    title: str
    cell: Callable[[RowT], str]
    rank: int = 0
    right: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """Lines of one length or less, and the titles of columns for which there was no room."""

    header: str
    lines: list[str]
    hidden: list[str]


def lay_out(columns: Sequence[Column[RowT]], rows: Sequence[RowT], width: int | None) -> Listing:
    """Write all rows below each other. Without a width (a pipe) nothing is left out or cut."""
    cells = {column.title: [column.cell(row) for row in rows] for column in columns}
    widths = {title: max(map(_width, (title, *below))) for title, below in cells.items()}
    shown, hidden = _fitting(columns, widths, width)
    padded = [_padded((column.title, *cells[column.title]), widths[column.title], column.right) for column in shown]
    header, *lines = [_cut(_GAP.join(line).rstrip(), width) for line in zip(*padded, strict=True)]
    return Listing(header, lines, hidden)


def _fitting(
    columns: Sequence[Column[RowT]], widths: dict[str, int], width: int | None
) -> tuple[list[Column[RowT]], list[str]]:
    shown, hidden = list(columns), []
    while width is not None and _total(shown, widths) > width:
        last = max(shown, key=lambda column: column.rank)
        if last.rank == 0:
            break
        shown.remove(last)
        hidden.append(last.title)
    return shown, hidden


def _total(columns: Sequence[Column[RowT]], widths: dict[str, int]) -> int:
    return sum(widths[column.title] for column in columns) + len(_GAP) * (len(columns) - 1)


def _padded(texts: Sequence[str], width: int, right: bool) -> list[str]:
    rooms = [" " * (width - _width(text)) for text in texts]
    return [room + text if right else text + room for room, text in zip(rooms, texts, strict=True)]


def _cut(text: str, width: int | None) -> str:
    if width is None or _width(text) <= width:
        return text
    while _width(text) >= width:
        text = text[:-1]
    return text + "…"


def _width(text: str) -> int:
    """Places on a terminal: some letters take two, some none."""
    if text.isascii():
        return len(text)
    # Here, since few names need it, and it loads tables.
    from rich.cells import cell_len  # noqa: PLC0415

    return cell_len(text)
