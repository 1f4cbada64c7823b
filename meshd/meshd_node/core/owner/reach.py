"""Which members to ask for a session, so that units that wait have where to go."""

import random
from collections.abc import Collection, Iterable, Mapping

from meshd_node.core.owner.config import OwnerConfig
from meshd_node.core.owner.demand import Demand
from meshd_node.core.owner.events import ExecutorView
from meshd_node.core.owner.terms import lacks, places
from meshd_protocol.ids import NodeId


class Reach:
    """Remembers whom it asked for while work lasts. Random: owners that see the same members do not all ask one."""

    def __init__(self, rng: random.Random, config: OwnerConfig) -> None:
        self._rng = rng
        self._config = config
        self._asked: dict[NodeId, float] = {}  # when
        self._resting: dict[NodeId, float] = {}  # until when

    def holds(self, node: NodeId) -> bool:
        """Whether the session with a node is for work that is not over."""
        return node in self._asked

    def ended(self, node: NodeId) -> None:
        """Its session ended; it may be asked again."""
        self._asked.pop(node, None)

    def failed(self, node: NodeId, now: float) -> None:
        """No session came about; ask others first."""
        if self._asked.pop(node, None) is not None:
            self._resting[node] = now + self._config.reach_again_s

    def rest(self) -> None:
        """No work is left."""
        self._asked.clear()
        self._resting.clear()

    def choose(
        self, demands: Iterable[Demand], views: Mapping[NodeId, ExecutorView], linked: Collection[NodeId], now: float
    ) -> list[NodeId]:
        """The members to dial now. `views` are all who would take work, `linked` those with a session."""
        self._resting = {node: until for node, until in self._resting.items() if until > now}
        operators = {views[node].operator for node in linked if node in views}
        coming = [views[node] for node in self._asked if node not in linked and node in views]
        free = {
            node: view
            for node, view in views.items()
            if node not in linked and node not in self._asked and node not in self._resting
        }
        chosen: list[NodeId] = []
        for demand in demands:
            slots = demand.slots - sum(places(view.offer, demand.terms.needs) for view in coming if _fits(view, demand))
            for view in self._in_order(demand, free.values(), operators):
                if slots <= 0 or len(self._asked) >= self._config.links_max:
                    break
                del free[view.node]
                coming.append(view)
                self._asked[view.node] = now
                chosen.append(view.node)
                slots -= places(view.offer, demand.terms.needs)
        return chosen

    def _in_order(self, demand: Demand, views: Iterable[ExecutorView], operators: set[str]) -> list[ExecutorView]:
        fit = [view for view in views if _fits(view, demand)]
        self._rng.shuffle(fit)
        fit.sort(key=lambda view: (demand.voters and not view.trusted and view.operator in operators, not view.trusted))
        return fit


def _fits(view: ExecutorView, demand: Demand) -> bool:
    return (view.trusted or not demand.trusted) and not lacks(view.offer, demand.terms, trusted=view.trusted)
