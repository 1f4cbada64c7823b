"""Whom to dial and when: a bounded number at a time, each backing off by itself."""

import math
import random

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.deadlines import Deadlines
from meshd_protocol.ids import NodeId


class Dialer:
    """Dials that are wanted, under way or waiting for their next try."""

    def __init__(self, rng: random.Random, config: MembershipConfig) -> None:
        self._rng = rng
        self._config = config
        self._later = Deadlines()
        self._ready: dict[NodeId, None] = {}  # in order; a set that remembers it
        self._failures: dict[NodeId, int] = {}
        self._flying: set[NodeId] = set()

    @property
    def busy(self) -> bool:
        """Whether half of the dials that may be under way are: what is not needed should wait."""
        return len(self._flying) + len(self._ready) >= self._config.dials_max // 2

    def want(self, node: NodeId, at: float) -> None:
        """Dial this node at `at`, as if no dial had failed before. What is already under way goes on."""
        self._failures[node] = 0
        if node not in self._flying and node not in self._ready:
            self._later.set(node, at)

    def drop(self, node: NodeId) -> None:
        """Dial this node no more. A dial under way still ends with `settled` or `failed`."""
        self._failures.pop(node, None)
        self._later.set(node, math.inf)
        self._ready.pop(node, None)

    def settled(self, node: NodeId) -> None:
        """There is a session; a dial to this node, if there was one, is over."""
        self._flying.discard(node)
        self.drop(node)

    def failed(self, node: NodeId, now: float) -> None:
        """Try again after a pause that doubles, unless the node was dropped meanwhile."""
        self._flying.discard(node)
        failures = self._failures.get(node)
        if failures is None:
            return
        # 2**16 times any first pause is above any last one; the exponent is bounded so that the float is.
        pause = min(self._config.dial_last_s, self._config.dial_first_s * 2 ** min(failures, 16))
        self._failures[node] = failures + 1
        self._later.set(node, now + pause * self._rng.uniform(0.5, 1.0))

    def start(self, now: float) -> list[NodeId]:
        """The nodes to dial now."""
        if not self._ready and self._later.next() > now:
            return []
        self._ready.update(dict.fromkeys(self._later.pop_due(now)))
        started: list[NodeId] = []
        while self._ready and len(self._flying) < self._config.dials_max:
            node = next(iter(self._ready))
            del self._ready[node]
            self._flying.add(node)
            started.append(node)
        return started

    def next_at(self) -> float:
        """When `start` has more to give though no dial ends before."""
        return self._later.next()
