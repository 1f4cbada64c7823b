"""Looks at this node's GPUs every minute, and soon after work on one failed."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from meshd_node.capacity.gpu_watch import GpuWatch
from meshd_node.capacity.gpus import GpuSurvey, Nvml, survey
from meshd_node.log import log

_EVERY_S: Final = 60.0
# Work that fails again and again does not keep the driver busy.
_PAUSE_S: Final = 5.0
# A driver whose card has died may never answer.
_ANSWER_S: Final = 10.0
_SILENT: Final = GpuSurvey(faults=(f"the driver of the GPUs did not answer within {_ANSWER_S:g} s",))


def asking(nvml: Nvml | None) -> Callable[[], Awaitable[GpuSurvey]]:
    """Ask the driver in a thread, which is left alone if it hangs; no other one joins it."""
    limiter = trio.CapacityLimiter(1)
    return partial(trio.to_thread.run_sync, partial(survey, nvml), abandon_on_cancel=True, limiter=limiter)


class GpuChecks:
    """`ask` has the driver asked; `changed` is called when other GPUs are lent than before."""

    def __init__(
        self,
        watch: GpuWatch,
        ask: Callable[[], Awaitable[GpuSurvey]],
        in_use: Callable[[], frozenset[str]],
        changed: Callable[[], None],
    ) -> None:
        self._watch = watch
        self._ask = ask
        self._in_use = in_use
        self._changed = changed
        self._trouble = trio.Event()

    def look_soon(self) -> None:
        """Work on a GPU failed: perhaps for the GPU's sake."""
        self._trouble.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            with trio.move_on_after(_EVERY_S - _PAUSE_S):
                await self._trouble.wait()
            self._trouble = trio.Event()
            await self._look()
            await trio.sleep(_PAUSE_S)

    async def _look(self) -> None:
        found = _SILENT
        with trio.move_on_after(_ANSWER_S):
            found = await self._ask()
        faults = self._watch.faults
        changed = self._watch.look(found, self._in_use())
        if self._watch.faults != faults:
            log.warning("gpus_checked", lent=len(self._watch.gpus), faults="; ".join(self._watch.faults) or "none")
        if changed:
            self._changed()
