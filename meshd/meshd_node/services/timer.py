"""The one timer of a service: fires at the time its machine last asked for."""

import math
from collections.abc import Callable

import trio


class Timer:
    """Calls `fire()`, then `flush()`, at the wished time. Setting it is free unless the new time is sooner."""

    def __init__(self, fire: Callable[[], None], flush: Callable[[], None]) -> None:
        self._fire = fire
        self._flush = flush
        self._at = math.inf
        self._armed_until = -math.inf
        self._sooner = trio.Event()

    def set(self, at: float) -> None:
        """Fire at `at` on trio's clock, in place of any earlier wish."""
        self._at = at
        if at < self._armed_until:
            self._sooner.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        task_status.started()
        while True:
            if self._at <= trio.current_time():
                self._at = math.inf
                self._fire()
                self._flush()
            self._sooner = trio.Event()
            self._armed_until = self._at
            with trio.move_on_at(self._armed_until):
                await self._sooner.wait()
            self._armed_until = -math.inf
            # A machine that always asks for "now" must not keep other tasks from running.
            await trio.lowlevel.checkpoint()
