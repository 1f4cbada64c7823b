"""What the units of the benchmarks do. Every system gets these very functions."""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

NAP_S = 0.05


def noop(_item: object = None) -> None:
    """Nothing: what is left is the system's own cost."""


def nap() -> None:
    time.sleep(NAP_S)


def short_nap_and_pid() -> int:
    """Long enough that a second worker gets one, too."""
    time.sleep(0.02)
    return os.getpid()


def call_for_each(items: Iterable[Any], function: Callable[[Any], Any]) -> list[Any]:
    """What a program does by hand where a system has no chunks."""
    return [function(item) for item in items]
