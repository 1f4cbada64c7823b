"""What one event leads to, collected so that each job has one verdict record and one delivery, however many units."""

from meshd_node.core.owner.effects import Deliver, Disagreement, Effect, Journal, Lease, Recall
from meshd_node.core.owner.job import Job
from meshd_node.core.owner.journal import Entry, FailureEntry, LeaseEntry, VerdictEntry
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.limits import BATCH_UNITS_MAX
from meshd_protocol.messages.local import Outcome

# As many indices as one `Recall` carries on the wire.
RECALL_UNITS_MAX = 4_096


class Ends:
    """How units of one job ended in this turn."""

    __slots__ = ("accepted", "cancelled", "digests", "failed", "job", "outcomes")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.outcomes: list[Outcome] = []
        self.accepted: list[int] = []
        self.digests: list[Digest] = []
        self.failed: list[int] = []
        self.cancelled: list[int] = []

    def entries(self) -> list[Entry]:
        """The records of these ends."""
        entries: list[Entry] = []
        if self.accepted:
            entries.append(VerdictEntry(self.job.id, self.accepted, self.digests))
        if self.failed:
            entries.append(FailureEntry(self.job.id, self.failed, cancelled=False))
        if self.cancelled:
            entries.append(FailureEntry(self.job.id, self.cancelled, cancelled=True))
        return entries


class Turn:
    """Effects of one event. Records first; recalls before leases, so that a unit can go back to the same node."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.entries: list[Entry] = []
        self.touched: dict[JobId, Job] = {}  # may have ended
        self._ends: dict[JobId, Ends] = {}
        self._recalls: dict[tuple[NodeId, JobId, int], list[int]] = {}
        self._disagreements: list[Effect] = []
        self._finished: list[Effect] = []
        self._leases: list[Effect] = []

    def ends(self, job: Job) -> Ends:
        """Where to note that units of a job ended."""
        ends = self._ends.get(job.id)
        if ends is None:
            ends = self._ends[job.id] = Ends(job)
            self.touched[job.id] = job
        return ends

    def recall(self, node: NodeId, job: Job, index: int) -> None:
        """Have one attempt forgotten."""
        self._recalls.setdefault((node, job.id, job.epoch), []).append(index)

    def recall_all(self, node: NodeId, job: Job) -> None:
        """Have a whole job forgotten."""
        self._recalls[node, job.id, job.epoch] = []

    def disagree(self, disagreement: Disagreement) -> None:
        """Show that executors differed."""
        self._disagreements.append(disagreement)

    def lease(self, lease: Lease) -> None:
        """Give work out."""
        self.entries.append(LeaseEntry(lease.job, lease.epoch, lease.node, lease.indices, lease.attempts))
        self._leases.append(lease)

    def settle(self) -> None:
        """Book all ends noted so far; call before jobs are finished and before new leases."""
        for ends in self._ends.values():
            self.entries += ends.entries()
            if ends.job.detached:
                ends.job.outcomes += ends.outcomes

    def finish(self, effect: Effect) -> None:
        """Say that a job ended, after its deliveries."""
        self._finished.append(effect)

    def effects(self) -> list[Effect]:
        """Everything in the order in which it must happen."""
        effects: list[Effect] = [Journal(self.entries)] if self.entries else []
        if self._recalls:
            effects += self._recall_effects()
        effects += self._disagreements
        if self._ends:
            effects += self._deliveries()
        effects += self._finished
        effects += self._leases
        return effects

    def _recall_effects(self) -> list[Effect]:
        return [
            Recall(node, job, epoch, indices[start : start + RECALL_UNITS_MAX])
            for (node, job, epoch), indices in self._recalls.items()
            for start in range(0, len(indices) or 1, RECALL_UNITS_MAX)
        ]

    def _deliveries(self) -> list[Effect]:
        return [
            Deliver(ends.job.id, ends.outcomes[start : start + BATCH_UNITS_MAX])
            for ends in self._ends.values()
            for start in range(0, len(ends.outcomes), BATCH_UNITS_MAX)
        ]
