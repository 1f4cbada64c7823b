"""Which files of a program are wanted: what its node brings back, and what whoever submitted it accepts."""

from collections.abc import Container, Iterable
from fnmatch import fnmatchcase
from typing import Final

from meshd_protocol.programs import OutputMissing

_SPECIAL: Final = frozenset("*?[")
_ANY_FOLDERS: Final = "**"


class Wanted:
    """The declared outputs: exact paths, and patterns in which `*`, `?`, `[…]` stay in a folder and `**` is any."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.exact: list[str] = []
        self._patterns: list[list[str]] = []
        for pattern in dict.fromkeys(patterns):
            if _SPECIAL.intersection(pattern):
                self._patterns.append(pattern.split("/"))
            else:
                self.exact.append(pattern)

    @property
    def has_patterns(self) -> bool:
        """Whether the whole folder must be looked through."""
        return bool(self._patterns)

    def fits(self, path: str) -> bool:
        """Whether some pattern means this path."""
        parts = path.split("/")
        return any(_fits(parts, pattern) for pattern in self._patterns)

    def means(self, path: str) -> bool:
        """Whether this path is wanted, by its name or by a pattern."""
        return path in self.exact or self.fits(path)

    def require(self, found: Container[str], exit_code: int) -> None:
        """Raise `OutputMissing` for a file that was named and is not there, though the program ended well."""
        missing = [path for path in self.exact if path not in found]
        if exit_code == 0 and missing:
            raise OutputMissing(
                f"the program ended with exit code 0 and left no regular file {missing[0]!r}"
                + (f", nor {len(missing) - 1} more of its outputs" if len(missing) > 1 else "")
            )


def _fits(parts: list[str], pattern: list[str]) -> bool:
    """Whether the parts of a path are those of a pattern; row by row, so that many `**` cost no more than few."""
    reached = {0}
    for part in parts:
        reached = _skip(reached, pattern)
        stayed = {at for at in reached if at < len(pattern) and pattern[at] == _ANY_FOLDERS}
        moved = {at + 1 for at in reached - stayed if at < len(pattern) and fnmatchcase(part, pattern[at])}
        reached = stayed | moved
    return len(pattern) in reached or (len(pattern) - 1 in reached and pattern[-1] == _ANY_FOLDERS)


def _skip(reached: set[int], pattern: list[str]) -> set[int]:
    """Places in the pattern that are reached without a part of the path: `**` may mean no folder at all."""
    there = set(reached)
    for at in range(len(pattern)):
        if at in there and pattern[at] == _ANY_FOLDERS:
            there.add(at + 1)
    return there
