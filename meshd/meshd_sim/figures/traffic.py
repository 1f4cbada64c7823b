"""What a quiet mesh sends."""

from collections.abc import Iterator
from typing import Final

from meshd_sim.conditions import RECORD_BYTES
from meshd_sim.figures.meshes import settled
from meshd_sim.figures.rows import Row
from meshd_sim.parcels import KEEP_ALIVE_BYTES, Traffic

# Nodes and goal in KB/s.
_MESHES: Final = ((10, 0.3), (100, 1.4), (1_000, 2.6))
# Two of the refreshes that come every 60 s, one of those every 300 s.
_SHORTEST_S: Final = 120.0


def bandwidth() -> Iterator[Row]:
    """All bytes on the lines, with what TLS adds and keep-alives, over whole refreshes."""
    for nodes, goal in _MESHES:
        world, members, _ = settled(0, nodes)
        assert members[0].host is not None, "it runs"
        refresh_s = members[0].host.machine.refresh_s()
        # What comes sooner than a refresh is taken for news: the first refreshes after this mesh was told of come so.
        world.run(1.1 * refresh_s)
        before = _by_kind(world.network.traffic)
        seconds = max(_SHORTEST_S, refresh_s)
        world.run(seconds)
        after = _by_kind(world.network.traffic)
        rates = {kind: (size - before.get(kind, 0)) / seconds / nodes for kind, size in after.items()}
        parts = ", ".join(
            f"{kind} {rate:.0f}" for kind, rate in sorted(rates.items(), key=lambda each: -each[1]) if rate >= 1
        )
        name = f"quiet mesh of {nodes:,}, refresh {refresh_s:.0f} s"
        yield Row(name=name, measured=sum(rates.values()) / 1_000, goal=goal, unit="KB/s", how=f"B/s: {parts}")


def _by_kind(traffic: Traffic) -> dict[str, int]:
    return traffic.bytes | {
        "TLS": RECORD_BYTES * traffic.records,
        "keep-alives": KEEP_ALIVE_BYTES * traffic.keep_alives,
    }
