"""Invariants 13 and 15: nothing grows without end, nobody sends more than it may."""

from typing import Final

from meshd_protocol.ids import NodeId
from meshd_sim.checkers.broken import Broken
from meshd_sim.checkers.watch import Checker
from meshd_sim.world import World

# A repair between strangers moves both views, 2 KB a member at most; nothing else may come near it.
_REPAIR_BYTES_PER_MEMBER: Final = 4_096
_REPAIRS_PER_S: Final = 2.0


class Bounds(Checker):
    """Counts what each node sends and holds."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._sent: dict[NodeId, int] = {}
        self._looked_at = 0.0

    def look(self) -> None:
        """Compare with the caps, since the last look."""
        world = self.world
        seconds, self._looked_at = max(1.0, world.now - self._looked_at), world.now
        cap = seconds * self._bytes_per_s()
        for each in world.nodes.values():
            sent = each.port.sent_bytes - self._sent.get(each.node, 0)
            self._sent[each.node] = each.port.sent_bytes
            if sent > cap:
                raise Broken(13, f"{each.name} sent {sent} bytes in {seconds:.0f} s, {cap:.0f} are allowed")
            held = 0 if each.host is None else len(each.host.machine.members())
            if held > world.config.members_max:
                raise Broken(13, f"{each.name} holds {held} members, {world.config.members_max} are allowed")

    def _bytes_per_s(self) -> float:
        config = self.world.config
        lanes = config.fanout * config.rumour_bytes * (1.0 / config.urgent_tick_s + 1.0 / config.tick_s)
        return 2.0 * lanes + _REPAIRS_PER_S * _REPAIR_BYTES_PER_MEMBER * len(self.world.nodes)


def quiescent_bytes_per_s(nodes: int) -> float:
    """What a node of a quiet mesh of so many may send, refreshing every 60 s: the model of the README, and a fifth."""
    return 1.2 * (300.0 + 12.0 * nodes)
