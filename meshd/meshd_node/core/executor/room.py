"""What the node lends, and what its workers have of it: slots, memory, GPUs."""

from typing import NamedTuple

from meshd_node.core import gpu_choice
from meshd_node.core.executor.events import Lent
from meshd_node.core.tenant import Harness
from meshd_protocol.limits import MIB
from meshd_protocol.records import Gpu


class Holding(NamedTuple):
    """What one worker has: of GPU `gpus[i]` it counts with `gpu_bytes[i]`."""

    slots: int
    memory_bytes: int
    gpus: tuple[str, ...] = ()
    gpu_bytes: tuple[int, ...] = ()


class Shortfall(NamedTuple):
    """How much is not free of what a worker needs."""

    slots: int
    memory_bytes: int
    gpus: int

    def exceeds(self, other: "Shortfall") -> bool:
        """Whether of anything there is more missing than in `other`."""
        return self.slots > other.slots or self.memory_bytes > other.memory_bytes or self.gpus > other.gpus


class Room:
    """Bookkeeping. What is taken may be more than what is lent, after less is lent than before."""

    __slots__ = ("_gpu_bytes", "_gpu_workers", "_memory_bytes", "_slots", "lent")

    def __init__(self, lent: Lent) -> None:
        """All is free."""
        self.lent = lent
        self._slots = 0
        self._memory_bytes = 0
        self._gpu_workers: dict[str, int] = {}
        self._gpu_bytes: dict[str, int] = {}

    def copy(self) -> "Room":
        """The same, to try things on."""
        other = Room(self.lent)
        other._slots, other._memory_bytes = self._slots, self._memory_bytes
        other._gpu_workers, other._gpu_bytes = self._gpu_workers.copy(), self._gpu_bytes.copy()
        return other

    @property
    def free_slots(self) -> int:
        """Slots that nobody has; below zero where less is lent now than is taken."""
        return self.lent.slots - self._slots

    def find(self, harness: Harness) -> Holding | None:
        """What a further worker would be given; None if it does not fit now."""
        slots = harness.slots
        if slots > self.lent.slots - self._slots:
            return None  # most often: nodes are full of work while there is any
        memory_bytes = self.memory_for(harness)
        if memory_bytes > self.lent.memory_bytes - self._memory_bytes:
            return None
        if not harness.gpus:
            return Holding(slots, memory_bytes)
        free = self._free_gpus(harness)
        if len(free) < harness.gpus:
            return None
        # Of those that are enough the smallest: the large ones are for whoever needs them.
        free.sort(key=lambda gpu: (self._gpu_workers.get(gpu.uuid, 0), gpu.memory_bytes))
        chosen = free[: harness.gpus]
        parts = tuple(self._part(gpu, harness) for gpu in chosen)
        return Holding(slots, memory_bytes, tuple(gpu.uuid for gpu in chosen), parts)

    def admits(self, holding: Holding) -> bool:
        """Whether a worker could have just this, these very GPUs."""
        if holding.slots > self.free_slots or self._memory_bytes + holding.memory_bytes > self.lent.memory_bytes:
            return False
        lent = {gpu.uuid: gpu for gpu in self.lent.gpus}
        return all(
            uuid in lent and self._has_room(lent[uuid], part)
            for uuid, part in zip(holding.gpus, holding.gpu_bytes, strict=True)
        )

    def shortfall(self, harness: Harness) -> Shortfall:
        """What is missing for a further worker."""
        memory_free = self.lent.memory_bytes - self._memory_bytes
        return Shortfall(
            max(0, harness.slots - self.free_slots),
            max(0, self.memory_for(harness) - memory_free),
            max(0, harness.gpus - len(self._free_gpus(harness))) if harness.gpus else 0,
        )

    def take(self, holding: Holding) -> None:
        """A worker has this now."""
        self._count(holding, 1)

    def give(self, holding: Holding) -> None:
        """A worker has this no more."""
        self._count(holding, -1)

    def memory_for(self, harness: Harness) -> int:
        """What a worker counts with: what its work asks for, or an even share of the memory for its slots."""
        if harness.memory_bytes:
            return harness.memory_bytes
        return self.lent.memory_bytes * harness.slots // max(self.lent.slots, 1)

    def _free_gpus(self, harness: Harness) -> list[Gpu]:
        able = gpu_choice.usable(self.lent.gpus, harness.gpus, harness.gpu_memory_bytes)
        return [gpu for gpu in able if self._has_room(gpu, self._part(gpu, harness))]

    def _part(self, gpu: Gpu, harness: Harness) -> int:
        """How much of a GPU's memory a worker counts with; what nobody shares is not counted."""
        if harness.gpu_memory_bytes or self.lent.gpu_workers == 1:
            return harness.gpu_memory_bytes
        return gpu.memory_bytes // self.lent.gpu_workers

    def _has_room(self, gpu: Gpu, memory_bytes: int) -> bool:
        if self._gpu_workers.get(gpu.uuid, 0) >= self.lent.gpu_workers:
            return False
        return self._gpu_bytes.get(gpu.uuid, 0) + memory_bytes <= gpu.memory_bytes

    def _count(self, holding: Holding, sign: int) -> None:
        self._slots += sign * holding.slots
        self._memory_bytes += sign * holding.memory_bytes
        for uuid, part in zip(holding.gpus, holding.gpu_bytes, strict=True):
            self._gpu_workers[uuid] = self._gpu_workers.get(uuid, 0) + sign
            self._gpu_bytes[uuid] = self._gpu_bytes.get(uuid, 0) + sign * part


def refusal(lent: Lent, harness: Harness) -> str:
    """Why a worker never fits, for people; "" if it does on an empty node."""
    if lent.slots < 1:
        return "this node lends no cpus"
    if harness.slots > lent.slots:
        return f"needs {harness.cpu_milli / 1_000:g} cpus, this node lends {lent.slots}"
    if harness.memory_bytes > lent.memory_bytes:
        return f"needs {harness.memory_bytes // MIB} MiB of memory, this node lends {lent.memory_bytes // MIB}"
    if harness.scratch_bytes > lent.scratch_bytes:
        return f"needs {harness.scratch_bytes // MIB} MiB of scratch space, this node lends {lent.scratch_bytes // MIB}"
    lacking = gpu_choice.lacking(lent.gpus, harness.gpus, harness.gpu_memory_bytes) if harness.gpus else ""
    return f"{lacking}, as this node lends them" if lacking else ""


def width(lent: Lent, harness: Harness) -> int:
    """How many workers of one kind fit on an empty node, at least 1."""
    most = lent.slots // harness.slots
    if harness.memory_bytes:
        most = min(most, lent.memory_bytes // harness.memory_bytes)
    if harness.gpus:
        able = gpu_choice.usable(lent.gpus, harness.gpus, harness.gpu_memory_bytes)
        places = sum(min(lent.gpu_workers, gpu.memory_bytes // (harness.gpu_memory_bytes or 1)) for gpu in able)
        most = min(most, places // harness.gpus)
    return max(most, 1)
