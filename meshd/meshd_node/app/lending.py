"""What this node lends now: its capacity, as far as the charter allows and the cage keeps."""

from dataclasses import replace
from datetime import datetime

from msgspec import structs

from meshd_node.capacity.gpu_watch import GpuWatch
from meshd_node.capacity.measure import Capacity, lent_memory_bytes, make_offer, slots_of
from meshd_node.charter.allowance import Cage, caged, welcomes_others
from meshd_node.charter.watch import CharterWatch
from meshd_node.charter.words import standing, told
from meshd_node.core.executor.events import SCRATCH_BYTES, Lent
from meshd_node.exec.pool import WorkerPool
from meshd_node.seams import Seams
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.records import Gpu, Offer, Phase


class Lending:
    """Says it in the words of the executor, of the mesh, and of people."""

    def __init__(self, me: Certified, charter: CharterWatch, capacity: Capacity, gpus: GpuWatch, seams: Seams) -> None:
        self._me = me
        self._charter = charter
        self._capacity = capacity
        self._gpu_watch = gpus
        self._seams = seams
        self._workers: WorkerPool | None = None

    def connect(self, workers: WorkerPool) -> None:
        """Hand in who knows what keeps work apart."""
        self._workers = workers

    @property
    def slots(self) -> int:
        """Workers at a time, for this machine's own users at least."""
        return slots_of(self._charter.charter, self._capacity) if Role.WORKER in self._me.roles else 0

    @property
    def _gpus(self) -> tuple[Gpu, ...]:
        gpus, bound = self._gpu_watch.gpus, self._charter.charter.gpus
        return gpus if bound < 0 else gpus[:bound]

    def cage(self) -> Cage:
        """What keeps work apart here, as far as it is known."""
        if self._workers is None:
            return Cage()
        layers = frozenset(layer.name for layer in self._workers.layers if layer.active)
        return Cage(self._workers.level, layers, self._workers.proved)

    def lent(self) -> Lent:
        """What work may have of this machine."""
        charter = self._charter.charter
        memory_bytes = lent_memory_bytes(self._capacity, charter.memory_bytes)
        scratch_bytes = charter.scratch_bytes or SCRATCH_BYTES
        return Lent(self.slots, memory_bytes, self._gpus, charter.gpu_workers, scratch_bytes=scratch_bytes)

    def offer(self, phase: Phase, *, own: bool = False) -> Offer:
        """What other nodes are told, or what this node's `own` users may have: theirs it is at any hour."""
        assert self._workers is not None, "nobody is told anything before all is built"
        charter, cage = self._charter.charter, self.cage()
        offer = make_offer(
            replace(self._capacity, gpus=self._gpus, faults=self._gpu_watch.faults),
            phase=phase,
            slots=0 if self._charter.closed and not own else self.slots,
            memory_bytes=charter.memory_bytes,
            cage=cage.level,
            own_operator_only=not welcomes_others(charter, cage, self._me),
            layers=self._workers.layers,
        )
        # What other operators may have run is a part of it; they learn which when they ask.
        allowed = caged(charter, cage, own=True).runtimes
        return structs.replace(offer, runtimes=tuple(each for each in offer.runtimes if each in allowed))

    def told(self) -> dict[str, object]:
        """The charter for people: whether it is open now, what it allows, and why not more."""
        charter, closed = self._charter.charter, self._charter.closed
        local = datetime.fromtimestamp(self._seams.wall())
        return {
            "open": not closed,
            "closed": closed,
            "fault": self._charter.fault,
            "now": standing(charter, closed, self.cage(), local),
            "allows": told(charter, self._me.operator),
        }
