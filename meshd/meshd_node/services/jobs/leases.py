"""How leases reach other nodes' executors, with whatever these lack to run them. Spec: 07-jobs.md."""

from typing import Final

from meshd_node.core.owner import effects
from meshd_node.core.owner.job import FIRST_EPOCH
from meshd_node.net.link import Link
from meshd_node.services.jobs.context import JobContext
from meshd_node.services.jobs.sent import SentJob, SentLog
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.limits import CONTROL_BYTES_MAX
from meshd_protocol.messages.peer import FunctionData, JobOpen, LeasedUnit, LeaseGrant, Recall, TrancheOpen

# Arguments and functions above this travel on the bulk connection, well below where a link would do so by itself.
_INLINE_BYTES_MAX: Final = CONTROL_BYTES_MAX - 16 * 1024


class LeaseSender:
    """The sessions with other nodes, and what each of them was sent in its present one."""

    def __init__(self) -> None:
        self._links: dict[NodeId, Link] = {}
        self._sent: dict[NodeId, SentLog] = {}

    def link_up(self, link: Link) -> None:
        """A session began: its node knows nothing of our jobs."""
        self._links[link.peer.node] = link
        self._sent[link.peer.node] = SentLog()

    def link_down(self, link: Link) -> bool:
        """A session ended; whether it was the present one of its node."""
        node = link.peer.node
        if self._links.get(node) is not link:
            return False
        del self._links[node], self._sent[node]
        return True

    def lease(self, lease: effects.Lease, context: JobContext) -> None:
        """Send a lease, and before it what the node lacks. Nothing happens if its session has just ended."""
        link = self._links.get(lease.node)
        if link is None:
            return  # `ExecutorLost` is on its way
        functions = list(dict.fromkeys(lease.functions))
        bulk = sum(map(len, lease.payloads)) > _INLINE_BYTES_MAX
        self._send_what_it_lacks(link, context, lease.tranche, functions, bulk=bulk)
        numbers = {digest: number for number, digest in enumerate(functions)}
        units = [
            LeasedUnit(index, attempt, numbers[function], payload)
            for index, attempt, function, payload in zip(
                lease.indices, lease.attempts, lease.functions, lease.payloads, strict=True
            )
        ]
        link.send(LeaseGrant(lease.job, lease.epoch, lease.tranche, lease.duration_ms, functions, units), bulk=bulk)

    def recall(self, recall: effects.Recall) -> None:
        """Have a node forget units."""
        if link := self._links.get(recall.node):
            link.send(Recall(recall.job, recall.epoch, recall.indices))

    def job_ended(self, job: JobId) -> None:
        """Have every node that has heard of a job forget it."""
        for node, sent in self._sent.items():
            if sent.forget(job):
                self._links[node].send(Recall(job, FIRST_EPOCH, []))

    def _send_what_it_lacks(
        self, link: Link, context: JobContext, tranche: int, functions: list[Digest], *, bulk: bool
    ) -> None:
        log_of_node = self._sent[link.peer.node]
        sent = log_of_node.job(context.job)
        if sent is None:
            sent = log_of_node.open(context.job)
            link.send(JobOpen(context.manifest))
        for digest in (*context.environment, *functions):
            if digest not in sent.functions:
                sent.functions.add(digest)
                _send_function(link, context, sent, context.functions[digest])
        if (context.job, tranche) not in log_of_node.tranches:
            log_of_node.tranches.put(context.job, tranche, context.tranches.size(tranche), None)
            link.send(TrancheOpen(context.job, context.tranches[tranche]))
        if bulk:
            _open_on_bulk(link, context, sent)


def _send_function(link: Link, context: JobContext, sent: SentJob, data: bytes) -> None:
    bulk = len(data) > _INLINE_BYTES_MAX
    if bulk:
        _open_on_bulk(link, context, sent)
    link.send(FunctionData(context.job, data), bulk=bulk)


def _open_on_bulk(link: Link, context: JobContext, sent: SentJob) -> None:
    # The lanes are two TCP connections: what is sent on one may overtake the manifest on the other.
    if not sent.on_bulk:
        sent.on_bulk = True
        link.send(JobOpen(context.manifest), bulk=True)
