"""The demo's job: how often each identifier occurs in a Python source, and in a library of them."""

import keyword
import re
import sysconfig
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# Strings, comments and numbers are matched so that nothing inside them is taken for an identifier.
_TOKEN: Final = re.compile(
    r'''
      [rRbBuUfF]{0,2} (?: """ (?:[^\\]|\\.)*? """ | \'\'\' (?:[^\\]|\\.)*? \'\'\'
                        | " (?:[^"\\\n]|\\.)* "   | ' (?:[^'\\\n]|\\.)* ' )
    | \# [^\n]*
    | \d \w*
    | ( [^\W\d] \w* )
    ''',
    re.VERBOSE | re.DOTALL,
)
_NOT_COUNTED: Final = frozenset(("", *keyword.kwlist))
_LEFT_OUT: Final = frozenset(("test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"))


def count_identifiers(source: str) -> dict[str, int]:
    """How often each identifier occurs in a source, keywords left out."""
    counts = Counter(_TOKEN.findall(source))
    return {name: count for name, count in counts.items() if name not in _NOT_COUNTED}


def most_used(counts: Iterable[dict[str, int]], top: int) -> list[tuple[str, int]]:
    """Reduce the counts of many sources to the `top` identifiers, the most used first."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return sorted(total.items(), key=lambda item: (-item[1], item[0]))[:top]


def standard_library() -> list[Path]:
    """Every source of this interpreter's standard library, its tests left out, in the order of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    found = root.rglob("*.py")
    return sorted(path for path in found if not _LEFT_OUT.intersection(path.relative_to(root).parts))


def read(path: Path) -> str:
    """A source as text; a byte that is no UTF-8 counts as no letter."""
    return path.read_text("utf-8", errors="replace")
