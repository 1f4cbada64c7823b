"""The daemon's log: an event's name and its facts, one line each, on standard error (decision 0004).

Nothing secret is ever a fact. Values are written as Python writes them, so that no text of a peer's can begin a line.
"""

import json
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

LEVELS: Final = ("debug", "info", "warning", "error")

_PLAIN: Final = (bool, int, float, str, type(None))


class _Sink:
    """Where all lines go, and from which level on."""

    def __init__(self) -> None:
        self.threshold = LEVELS.index("info")
        self.as_json = False
        self.stream: TextIO | None = None

    def write(self, level: str, event: str, facts: dict[str, object]) -> None:
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self.as_json:
            plain = {key: value if isinstance(value, _PLAIN) else repr(value) for key, value in facts.items()}
            line = json.dumps({"time": moment, "level": level, "event": event, **plain})
        else:
            told = "  ".join(f"{key}={value if _is_bare(value) else repr(value)}" for key, value in facts.items())
            line = f"{moment} {level:<7} {event}  {told}".rstrip()
        # One call, so that lines of several threads never mix.
        (self.stream or sys.stderr).write(line + "\n")


_SINK: Final = _Sink()


class Log:
    """Says what happens."""

    def debug(self, event: str, **facts: object) -> None:
        """For whoever looks for a fault."""
        self._say("debug", event, facts)

    def info(self, event: str, **facts: object) -> None:
        """What an operator wants to know."""
        self._say("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """What an operator should look at."""
        self._say("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        """What is wrong."""
        self._say("error", event, facts)

    def _say(self, level: str, event: str, facts: dict[str, object]) -> None:
        if LEVELS.index(level) >= _SINK.threshold:
            _SINK.write(level, event, facts)


log: Final = Log()


def configure(level: str, *, as_json: bool) -> None:
    """Write from this level on, as text or as JSON."""
    _SINK.threshold = LEVELS.index(level)
    _SINK.as_json = as_json


def _is_bare(value: object) -> bool:
    """Whether a text needs no quotes: printable, without spaces."""
    return isinstance(value, str) and value.isprintable() and value != "" and " " not in value
