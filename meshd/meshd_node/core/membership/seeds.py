"""The configured addresses to join through, and when to try each again.

A seed is an address; who lives there is known only once it answered. It is tried until then, and again whenever
the node that answered does not live any more, so that two halves of a mesh with the same seeds find each other.
"""

import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshd_node.core.membership.config import MembershipConfig
from meshd_protocol.ids import NodeId

# A liar that names the seeds' addresses as its own would keep a node away from them for ever.
_BELIEVED_S: Final = 300.0


@dataclass(slots=True)
class _Seed:
    at: float = -math.inf
    failures: int = 0
    node: NodeId | None = None
    believed_until: float = math.inf


class Seeds:
    """Who answered at which address, and the pauses between tries."""

    def __init__(self, addresses: Sequence[str], rng: random.Random, config: MembershipConfig) -> None:
        self._seeds = {address: _Seed() for address in addresses}
        self._rng = rng
        self._config = config

    def answered(self, address: str, node: NodeId) -> None:
        """A session with `node` came about at this address."""
        seed = self._seeds.get(address)
        if seed is not None:
            seed.node, seed.failures = node, 0

    def failed(self, address: str, now: float) -> None:
        """A dial of this address ended without a session: try again after a pause that doubles."""
        seed = self._seeds.get(address)
        if seed is not None:
            pause = min(self._config.dial_last_s, self._config.dial_first_s * 2.0 ** min(seed.failures, 16))
            seed.at = now + pause * self._rng.uniform(0.5, 1.0)
            seed.failures += 1

    def all_fail(self) -> bool:
        """Whether there are seeds, and none has answered since it failed."""
        return bool(self._seeds) and all(seed.failures for seed in self._seeds.values())

    def due(
        self, living: Collection[NodeId], served: Collection[str], now: float, *, own: Collection[str] = ()
    ) -> list[str]:
        """The addresses to dial now. `served` are those at which living nodes say that they listen, `own` this node."""
        due = []
        for address, seed in self._seeds.items():
            if seed.at <= now:
                # Unless it fails sooner: then looked at again.
                seed.at = now + self._config.dial_last_s
                believed = address in served and self._believes(seed, now)
                if seed.node not in living and address not in own and not believed:
                    due.append(address)
        return due

    def due_beside(
        self, me: NodeId, peers: Iterable[NodeId], near: Mapping[NodeId, Sequence[str]], now: float
    ) -> list[str]:
        """The addresses to dial now. `near` are the addresses of those who live, ours among them, and of peers."""
        served = {address for node, addresses in near.items() if node != me for address in addresses}
        return self.due({*peers, *near}, served, now, own=near.get(me, ()))

    def _believes(self, seed: _Seed, now: float) -> bool:
        """Whether to leave a seed alone because a node says that it listens there. Now and then that is looked at."""
        if math.isinf(seed.believed_until) or now < seed.believed_until:
            seed.believed_until = min(seed.believed_until, now + _BELIEVED_S)
            return True
        seed.believed_until = now + _BELIEVED_S
        return False

    def next_at(self) -> float:
        """When to ask again what is due."""
        return min((seed.at for seed in self._seeds.values()), default=math.inf)
