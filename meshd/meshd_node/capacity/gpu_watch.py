"""Which GPUs are lent, with how much memory, from one survey to the next."""

from collections.abc import Collection
from typing import Final

from meshd_node.capacity.gpus import GpuSurvey
from meshd_protocol.limits import MIB
from meshd_protocol.records import Gpu

# Figures are published in such steps, and only when they moved by more than one: desktops draw, and give back.
_GRAIN_BYTES: Final = 256 * MIB
# A GPU with less is somebody else's now.
_FREE_BYTES_MIN: Final = 512 * MIB


class GpuWatch:
    """Pure. A GPU is lent with the memory that was free on it when no work of this node was there."""

    def __init__(self, gpus: tuple[Gpu, ...] = (), faults: tuple[str, ...] = ()) -> None:
        """Begin with what another watch has found."""
        self.gpus = gpus
        self.faults = faults

    def look(self, found: GpuSurvey, in_use: Collection[str]) -> bool:
        """Take in a survey; return whether what is lent changed by it.

        One that has a fault is lent no more, one that is well again is. What the workers on it fill is not missing.
        """
        before, self.faults = self.gpus, found.faults
        known = {gpu.uuid: gpu for gpu in before}
        lent: list[Gpu] = []
        for gpu, free in zip(found.gpus, found.free_bytes, strict=True):
            old = known.get(gpu.uuid)
            if old is not None and gpu.uuid in in_use:
                lent.append(old)
            elif free < _FREE_BYTES_MIN:
                self.faults += (f"{gpu.uuid} ({gpu.model}) is not lent: other programs use its memory",)
            else:
                lent.append(_steady(old, Gpu(gpu.uuid, gpu.model, free // _GRAIN_BYTES * _GRAIN_BYTES)))
        self.gpus = tuple(lent)
        return self.gpus != before


def _steady(old: Gpu | None, new: Gpu) -> Gpu:
    if old is None or abs(old.memory_bytes - new.memory_bytes) > _GRAIN_BYTES:
        return new
    return old
