"""What has to happen when the process forks, and when the interpreter ends."""

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol


class Living(Protocol):
    """Something that owns a thread, a lock or a socket."""

    def at_exit(self) -> None:
        """Finish what was begun. Threads still run."""

    def after_fork(self) -> None:
        """Forget, in the child, what belongs to the parent. No other thread exists."""


_living: "weakref.WeakSet[Living]" = weakref.WeakSet()
_ending = False


def watch(living: Living) -> None:
    """Call its hooks for as long as it lives."""
    _living.add(living)


def is_ending() -> bool:
    """Whether the interpreter has begun to end."""
    return _ending


def _at_exit() -> None:
    global _ending  # noqa: PLW0603
    _ending = True
    for living in list(_living):
        living.at_exit()


def _after_fork() -> None:
    for living in list(_living):
        living.after_fork()


# The hook that concurrent.futures itself uses since Python 3.9: unlike atexit it runs before threads are joined and
# while new ones may still start, so that callbacks of the last futures can do what they like.
_register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
_register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
