"""Hours of the week: what holds when, and what can not be read."""

from datetime import datetime

import pytest

from meshd_node.charter.hours import next_begin, parse_span
from meshd_node.errors import ConfigError

KEY = "charter.hours"


def at(text: str) -> datetime:
    """A moment of the week that begins on Monday, 2 November 2026."""
    day, time = text.split()
    return datetime.fromisoformat(f"2026-11-0{2 + ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'].index(day)} {time}")


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("mon-fri 19:00-07:00", ["mon 19:00", "tue 06:59", "sat 06:59"], ["mon 06:59", "mon 18:59", "sat 19:00"]),
        ("sat,sun", ["sat 00:00", "sun 23:59"], ["fri 23:59", "mon 00:00"]),
        ("12:00-13:00", ["mon 12:00", "sun 12:59"], ["mon 11:59", "mon 13:00"]),
        ("fri-mon 22:00-24:00", ["fri 22:00", "mon 23:59"], ["tue 22:00", "sat 00:00"]),
        ("sun 20:00-08:00", ["sun 20:00", "mon 07:59"], ["sun 07:59", "mon 20:00"]),
        ("Mon 0:00-24:00", ["mon 00:00", "mon 23:59"], ["tue 00:00", "sun 23:59"]),
        ("tue 08:00-08:00", ["tue 08:00", "wed 07:59"], ["tue 07:59", "wed 08:00"]),
    ],
)
def test_a_span_holds_from_its_first_minute_to_the_one_before_its_last(
    span: str, inside: list[str], outside: list[str]
) -> None:
    read = parse_span(span, KEY)

    assert [moment for moment in inside if not read.holds(at(moment))] == []
    assert [moment for moment in outside if read.holds(at(moment))] == []


@pytest.mark.parametrize(
    "text",
    ["", "  ", "noon", "mon-fry", "mon tue", "25:00-26:00", "12:00", "12:00-13:61", "mon,", "24:00-25:00", "1 2 3"],
)
def test_what_are_no_hours_is_refused_with_how_to_write_them(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_span(text, KEY)

    assert str(caught.value).startswith("charter.hours: ")
    assert 'write "mon-fri 19:00-07:00"' in str(caught.value)


@pytest.mark.parametrize(
    ("now", "begins"), [("mon 12:00", "mon 19:00"), ("mon 19:00", "tue 19:00"), ("fri 20:00", "sat 09:00")]
)
def test_when_it_begins_next_is_known(now: str, begins: str) -> None:
    spans = [parse_span(text, KEY) for text in ("mon-fri 19:00-07:00", "sat 09:00-10:00")]

    assert next_begin(spans, at(now)) == at(begins)


def test_without_hours_nothing_begins() -> None:
    assert next_begin([], at("mon 12:00")) is None
