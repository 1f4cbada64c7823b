"""Which node's GPUs to look at next, and what a look says of the node's offer. Decision 0009."""

import random
from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import Meta

from meshd_protocol.ids import NodeId
from meshd_protocol.limits import GPUS_MAX, MIB
from meshd_protocol.records import Gpu, Offer

# A look costs a worker on a GPU some seconds: each node pays that some times a day, however many owners' work it has.
_AGAIN_S: Final = 6 * 3_600.0
# Whoever showed nothing may be repaired; whoever did not answer may be busy.
_SOON_S: Final = 600.0
# The driver keeps some of the memory that it names.
_KEPT_BY_DRIVER: Final = 0.1
# The digits of a UUID without what is put before them.
_UUID_CHARS: Final = 36

# What a worker may claim: it is somebody else's word, and shown to people.
SeenUuid = Annotated[str, Meta(max_length=_UUID_CHARS)]
Seen = Annotated[list[tuple[SeenUuid, Annotated[int, Meta(ge=0)]]], Meta(max_length=GPUS_MAX)]


class SpotChecks:
    """Pure. One look at a time; who is next, and when each is looked at again, is chance: nobody can prepare for it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._due: dict[NodeId, float] = {}
        self._looking: NodeId | None = None

    def choose(self, offers: Mapping[NodeId, Offer], now: float) -> NodeId | None:
        """The node to look at now, among those that could be given work; then `ended` must follow."""
        if self._looking is not None:
            return None
        self._due = {node: due for node, due in self._due.items() if node in offers or due > now}
        due = [node for node, offer in offers.items() if offer.gpus and self._due.get(node, now) <= now]
        self._looking = self._rng.choice(due) if due else None
        return self._looking

    def ended(self, seen: Seen | None, offer: Offer | None, now: float) -> str | None:
        """What is wrong with the node that was looked at, for people; "" if nothing, None if nobody can tell."""
        assert self._looking is not None, "a look that ends has begun"
        node, self._looking = self._looking, None
        fault = None if seen is None or offer is None else fault_of(seen, offer.gpus)
        pause = _AGAIN_S if fault == "" else _SOON_S
        self._due[node] = now + pause * self._rng.uniform(0.5, 1.5)
        return fault


def fault_of(seen: Seen, offered: list[Gpu]) -> str:
    """How what a worker with one GPU saw contradicts the offer."""
    if not seen:
        return f"a worker that was to have one of its {len(offered)} GPUs saw none"
    by_uuid = {gpu.uuid[-_UUID_CHARS:].lower(): gpu for gpu in offered}
    for uuid, memory_bytes in seen:
        gpu = by_uuid.get(uuid)
        if gpu is None:
            return f"a worker saw GPU {uuid}, which is not in its offer"
        if memory_bytes < gpu.memory_bytes * (1 - _KEPT_BY_DRIVER):
            has, says = memory_bytes // MIB, gpu.memory_bytes // MIB
            return f"a worker saw a GPU ({gpu.model}) with {has} MiB, its offer says {says}"
    return ""
