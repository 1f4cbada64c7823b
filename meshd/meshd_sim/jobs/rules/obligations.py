"""What an executor owes: each lease one end, each worker one tenant, no more of them than slots."""

from meshd_node.core.executor import effects, events
from meshd_node.core.tenant import Tenant
from meshd_protocol.ids import JobId, NodeId
from meshd_protocol.messages.attempts import AttemptResult
from meshd_sim.jobs.rules.require import require


class Obligations:
    """One executor in one process. `owed` has what was leased and neither answered nor recalled."""

    def __init__(self, slots: int, memory_bytes: int) -> None:
        self.slots = slots
        self.memory_bytes = memory_bytes
        self.owners: set[NodeId] = set()
        self.owed: set[tuple[NodeId, JobId, int, int]] = set()
        self.workers: dict[int, Tenant] = {}
        self.bounds: dict[int, int] = {}  # of their memory
        self.tenants: dict[JobId, Tenant] = {}

    def note_event(self, event: events.Event) -> None:
        """Something happened to the executor."""
        match event:
            case events.OwnerUp(owner):
                self.owners.add(owner)
            case events.OwnerLost(owner):
                self.owners.discard(owner)
                self.owed = {each for each in self.owed if each[0] != owner}
            case events.LeaseArrived(owner, job):
                self.tenants[job] = event.tenant
                if owner in self.owners:
                    self.owed |= {(owner, job, work.unit, work.attempt) for work in event.units}
            case events.Recalled(owner, job, _, indices):
                wanted = set(indices)
                self.owed = {
                    each for each in self.owed if each[:2] != (owner, job) or (wanted and each[2] not in wanted)
                }
            case events.WorkerEnded(worker):
                self.workers.pop(worker, None)
            case _:
                pass

    def note_effect(self, effect: effects.Effect) -> None:
        """The executor asked for something."""
        match effect:
            case effects.StartWorker(worker, tenant, _, memory_bytes):
                self.workers[worker] = tenant
                self.bounds[worker] = memory_bytes
                used = sum(self.bounds[each] for each in self.workers)
                require(used <= self.memory_bytes, 13, "workers may use more memory than there is")
                taken = sum(each.harness.slots for each in self.workers.values())
                require(taken <= self.slots, 13, "workers have more slots than there are")
            case effects.EndWorker(worker):
                del self.workers[worker]
            case effects.RunOn(worker, job):
                require(self.workers[worker] == self.tenants[job], 13, "a worker got another tenant's unit")
            case effects.ReportResults(owner, job, _, results) | effects.ReportEnds(owner, job, _, results):
                self._pay(owner, job, results)
            case _:
                pass

    def check_all_paid(self) -> None:
        """Long after the last lease nothing is owed."""
        require(not self.owed, 4, f"{len(self.owed)} leases never ended on their executor")

    def _pay(self, owner: NodeId, job: JobId, results: list[AttemptResult]) -> None:
        for result in results:
            debt = (owner, job, result.index, result.attempt)
            require(debt in self.owed, 7, "an executor answered what nobody asked, or twice")
            self.owed.remove(debt)
