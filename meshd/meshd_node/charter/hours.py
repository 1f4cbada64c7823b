"""Hours of the week, as one writes them: days, a time from and until, or both."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from meshd_node.errors import ConfigError

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_TIMES: Final = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_HOW: Final = 'write "mon-fri 19:00-07:00", "sat,sun" or "12:00-13:00"'


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes of a day, on some days (0 is Monday). One that ends before it begins goes on after midnight."""

    days: frozenset[int]
    begin: int
    end: int

    def holds(self, moment: datetime) -> bool:
        """Whether a local moment lies within."""
        minute = moment.hour * 60 + moment.minute
        today, yesterday = moment.weekday(), (moment.weekday() - 1) % 7
        if self.begin < self.end:
            return today in self.days and self.begin <= minute < self.end
        return (today in self.days and minute >= self.begin) or (yesterday in self.days and minute < self.end)


def parse_span(text: str, key: str) -> Span:
    """Read one entry; raise `ConfigError`, naming `key`."""
    words = text.lower().split()
    times = words.pop() if words and _TIMES.fullmatch(words[-1]) else ""
    if len(words) > 1 or not (words or times):
        raise ConfigError(f"{key}: {text!r} are no hours: {_HOW}")
    days = _days(words[0], text, key) if words else frozenset(range(7))
    begin, end = _minutes(times, text, key) if times else (0, _DAY_MINUTES)
    return Span(days, begin, end)


def next_begin(spans: Iterable[Span], moment: datetime) -> datetime | None:
    """When the first of them begins after a moment, within a week."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    begins = [
        midnight + timedelta(days=ahead, minutes=span.begin)
        for span in spans
        for ahead in range(8)
        if (midnight + timedelta(days=ahead)).weekday() in span.days
    ]
    return min((begin for begin in begins if begin > moment), default=None)


def _days(text: str, whole: str, key: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise ConfigError(f"{key}: {part!r} in {whole!r} are no days of {', '.join(_DAYS)}: {_HOW}")
        begin = _DAYS.index(first)
        length = (_DAYS.index(last) - begin) % 7 if dash else 0
        days |= {(begin + offset) % 7 for offset in range(length + 1)}
    return frozenset(days)


def _minutes(times: str, whole: str, key: str) -> tuple[int, int]:
    hours_minutes = [int(part) for part in re.split("[:-]", times)]
    begin, end = (hour * 60 + minute for hour, minute in (hours_minutes[:2], hours_minutes[2:]))
    if begin >= _DAY_MINUTES or end > _DAY_MINUTES or hours_minutes[1] > 59 or hours_minutes[3] > 59:
        raise ConfigError(f"{key}: {times} in {whole!r} are no times of a day: {_HOW}")
    return begin, end
