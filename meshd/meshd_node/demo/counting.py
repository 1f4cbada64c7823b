"""The demo's job: how often each identifier occurs in a Python source, and in many of them."""

import keyword
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

# Strings, comments and numbers are matched so that nothing inside them is taken for an identifier. A prefix belongs to
# its string, since nothing else tries to match where it begins.
_TOKEN: Final = re.compile(
    r'''
      [rRbBuUfFtT]{0,2} (?: """ (?:[^\\]|\\.)*? """ | \'\'\' (?:[^\\]|\\.)*? \'\'\'
                          | " (?:[^"\\\n]|\\.)* "   | ' (?:[^'\\\n]|\\.)* ' )
    | \# [^\n]*
    | \d \w*
    | ( [^\W\d] \w* )
    ''',
    re.VERBOSE | re.DOTALL,
)
_NOT_COUNTED: Final = frozenset(("", *keyword.kwlist))


def count_identifiers(source: str) -> dict[str, int]:
    """How often each identifier occurs in a source, keywords left out. What stands in strings is not looked into."""
    counts = Counter(_TOKEN.findall(source))
    return {name: count for name, count in counts.items() if name not in _NOT_COUNTED}


def most_used(counts: Iterable[dict[str, int]], top: int) -> list[tuple[str, int]]:
    """Reduce the counts of many sources to the `top` identifiers, the most used first."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return sorted(total.items(), key=lambda item: (-item[1], item[0]))[:top]
