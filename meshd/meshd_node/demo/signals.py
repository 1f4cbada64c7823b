"""The demo leaves nothing behind, whoever ends it: Ctrl-C, a service manager, a terminal that is closed."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn, TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | None

# Ctrl-C raises KeyboardInterrupt by itself; these two would end the process without cleaning up.
_LEAVE: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def leaving_in_order() -> Iterator[None]:
    """Have every wish to end unwind the block, with the exit code that shells give to it."""
    before = {number: signal.signal(number, _leave) for number in _LEAVE}
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Clean up to the end, though an impatient user presses Ctrl-C again."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *_LEAVE)}
    try:
        yield
    finally:
        _restore(before)


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _restore(handlers: Mapping[signal.Signals, Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
