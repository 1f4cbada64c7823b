"""Whether this node takes work: by command it takes none until told otherwise, and at its end none for good."""

import math
from collections.abc import Callable
from typing import Final

import trio

from meshd_node.core.owner.machine import Owner
from meshd_node.core.owner.summaries import JobSummary
from meshd_node.log import log
from meshd_node.seams import Seams
from meshd_node.services.execution.service import ExecutionService
from meshd_node.services.outflow import Outflow
from meshd_protocol.ids import to_text
from meshd_protocol.records import Phase

# The executor ends what still runs at the drain's end; its workers are gone at once.
_GRACE_S: Final = 1.0
# Of the jobs that keep a drain from its end so many are named, those that wait for longest.
_NAMED_MAX: Final = 8


class Draining:
    """The one place that begins and ends drains. `announce` tells the mesh; what is announced is not kept on disk."""

    def __init__(
        self,
        execution: ExecutionService,
        owner: Owner,
        announce: Callable[[Phase], None],
        seams: Seams,
        outflow: Outflow,
    ) -> None:
        self.on = False
        self.stopping = False
        self._execution = execution
        self._owner = owner
        self._announce = announce
        self._seams = seams
        self._outflow = outflow
        self._idle = trio.Event()

    def begin(self, until: float = math.inf) -> None:
        """Take nothing new; finish what runs, or hand it back at `until`. Again: nothing changes but the end."""
        log.info("draining", stopping=self.stopping)
        self._idle = trio.Event()
        if not self.on:
            self.on = True
            self._announce(Phase.DRAINING)
        self._execution.drain(until)

    def end(self) -> None:
        """Take work again."""
        assert not self.stopping, "whoever asks is told that this node stops"
        if self.on:
            log.info("drain_ended")
            self.on = False
            self._announce(Phase.ALIVE)
            self._execution.resume()

    def idle(self) -> None:
        """The executor has nothing left that runs."""
        self._idle.set()

    async def stop(self, within_s: float) -> None:
        """Drain for good; return when nothing runs here any more."""
        self.stopping = True
        self.begin(self._seams.monotonic() + within_s)
        self._outflow.flush()
        with trio.move_on_after(within_s + _GRACE_S):
            await self._idle.wait()

    def progress(self) -> dict[str, object]:
        """What is still to be finished: units that run here, and units of this node's own jobs, wherever they are."""
        jobs = [job for job in self._owner.jobs() if job.waiting + job.running]
        return {
            "state": "draining" if self.on else "ready",
            "running": self._execution.executor.running,
            "own_units": sum(job.waiting + job.running for job in jobs),
            "own_running": sum(job.running for job in jobs),
            "kept_by": [self._keeper(job) for job in jobs[:_NAMED_MAX]],
        }

    def _keeper(self, job: JobSummary) -> dict[str, object]:
        # The first line counts units, the others say what they wait for.
        why = self._owner.why(job.job, None, self._seams.monotonic())[1:]
        return {"job": to_text(job.job), "name": job.name, "units": job.waiting + job.running, "why": why}
