"""How figures look to people."""

import time
from typing import Any, cast

# Of a name or address. Names have up to 200 characters; nobody has such a one for a reason.
_SHOWN = 40
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float | None) -> str:
    """Bytes in the largest unit that leaves at least 1."""
    if count is None:
        return "-"
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 or count >= 100 else f"{count:.1f} {_UNITS[unit]}"


def ago(moment: float | None) -> str:
    """How long ago a moment (seconds since 1970) was."""
    if moment is None:
        return "-"
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def number(value: float | None, unit: str = "") -> str:
    """A figure with at most two decimals, or a dash."""
    if value is None:
        return "-"
    return f"{value:.2f}".rstrip("0").rstrip(".") + unit


def counted(count: int, noun: str) -> str:
    """How many of something whose plural ends in s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """Text that a stranger chose, as one may print it: nothing in it moves the cursor or changes colours."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "�" for each in text)


def short(text: str) -> str:
    """The same, and not too long for a listing."""
    return printable(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def table_of(answer: object) -> dict[str, Any]:
    """A daemon's answer that is one object."""
    return cast("dict[str, Any]", answer)


def rows_of(answer: object) -> list[dict[str, Any]]:
    """A daemon's answer that is a list of objects."""
    return cast("list[dict[str, Any]]", answer)
