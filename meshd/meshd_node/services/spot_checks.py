"""Looks at other nodes' GPUs now and then, by units like any other, while this node's users have work for some."""

import pickle
from typing import Final

import trio
from msgspec import ValidationError, convert

from meshd_node.core.owner.events import GpusLookedAt
from meshd_node.core.owner.spot_checks import Seen, SpotChecks
from meshd_node.exec import sight
from meshd_node.log import log
from meshd_node.seams import Seams
from meshd_node.services.jobs.context import JobContext
from meshd_node.services.jobs.service import JobService, TooMuchWaiting
from meshd_node.services.outflow import Outflow
from meshd_protocol import values
from meshd_protocol.calls import CallForm
from meshd_protocol.errors import ProtocolError
from meshd_protocol.ids import JobId, NodeId, to_text
from meshd_protocol.messages.attempts import UnitStatus
from meshd_protocol.messages.local import OpenJob, Outcome
from meshd_protocol.records import Needs, Policy

_EVERY_S: Final = 60.0
# A look that no GPU was free for in so many minutes is given up.
_PATIENCE_MINUTES: Final = 5
_TIMEOUT_MS: Final = 60_000
# By name: every node has this module, and no code travels.
_FUNCTION: Final = pickle.dumps(sight.gpus)
_CALL: Final = bytes([CallForm.CALL]) + pickle.dumps(((), {}))
# The one node's word is what is asked for.
_POLICY: Final = Policy(replicas=1, quorum=1, failures_max=1, timeout_ms=_TIMEOUT_MS)


class SpotCheckService:
    """Listens to the jobs that it opens itself, one at a time."""

    def __init__(self, jobs: JobService, checks: SpotChecks, uid: int, seams: Seams, outflow: Outflow) -> None:
        self._jobs = jobs
        self._checks = checks
        self._uid = uid
        self._seams = seams
        self._outflow = outflow
        self._job: JobContext | None = None
        self._node: NodeId | None = None
        self._seen: Seen | None = None
        self._minutes = 0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await trio.sleep(_EVERY_S)
            self.look()
            self._outflow.flush()

    def look(self) -> None:
        """Begin a look if one is due, or give one up that takes too long."""
        if self._job is not None:
            self._minutes += 1
            if self._minutes == _PATIENCE_MINUTES:
                self._jobs.cancel_job(self._job)
            return
        owner = self._jobs.owner
        node = self._checks.choose(owner.offers(), self._seams.monotonic()) if owner.wants_gpus() else None
        if node is not None:
            self._begin(node)

    def deliver(self, job: JobId, outcomes: list[Outcome]) -> None:
        """The look's unit ended."""
        for outcome in outcomes:
            if outcome.status is UnitStatus.RETURNED:
                self._seen = _read(outcome.value)

    def finished(self, job: JobId, state: str, reason: str) -> None:
        """The look is over."""
        assert self._node is not None, "it began"
        node, seen = self._node, self._seen
        self._job = self._node = self._seen = None
        fault = self._checks.ended(seen, self._jobs.owner.offers().get(node), self._seams.monotonic())
        if fault is None:
            log.info("gpus_not_seen", node=to_text(node), reason=reason or state)
            return
        if fault:
            log.warning("gpus_doubted", node=to_text(node), fault=fault)
        self._jobs.gpus_looked_at(GpusLookedAt(node, fault))

    def _begin(self, node: NodeId) -> None:
        request = OpenJob(f"look at the GPUs of {to_text(node)[:8]}", _POLICY, Needs(gpus=1), detached=False)
        self._node, self._minutes = node, 0
        try:
            job = self._job = self._jobs.open_job(self._uid, request, self, only=node)
        except TooMuchWaiting as error:  # this daemon's own user has opened too many jobs
            self._checks.ended(None, None, self._seams.monotonic())
            log.info("gpus_not_seen", node=to_text(node), reason=str(error))
            return
        self._jobs.submit(job, [self._jobs.define_function(job, _FUNCTION)], [_CALL])
        self._jobs.close_job(job)


def _read(value: bytes) -> Seen | None:
    """What a worker claims to have seen; None if it is no such thing."""
    try:
        return convert(values.decode(value), Seen)
    except (ProtocolError, ValidationError):
        return None
