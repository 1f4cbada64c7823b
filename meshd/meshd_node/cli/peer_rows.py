"""Members as rows: what stands in each column, in which order, and how many are in which state."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from meshd_node.cli.columns import Column
from meshd_node.cli.text import ago, number, short, size

Peer: TypeAlias = dict[str, Any]

ID_CHARS: Final = 8
# As they are counted, the living first.
STATES: Final = ("alive", "draining", "suspect", "dead", "left", "revoked")
GONE: Final = frozenset({"dead", "left", "revoked"})
# What happened within this is news, and within the second not yet history.
NEWS_S: Final = 60.0
HISTORY_S: Final = 3_600.0


def name_of(peer: Peer) -> str:
    """A member's name, which it chose itself: safe to print, and not too long."""
    return short(peer["name"]) or "-"


def load_of(peer: Peer) -> str:
    """How full its workers are, and how many units wait for one."""
    if peer["load"] is None:
        return "-"
    return f"{peer['load']:.0%}" + (f" +{peer['queued']}" if peer["queued"] else "")


def rtt_of(peer: Peer) -> str:
    """How long a ping takes, where there is a session."""
    if peer["rtt_ms"] is None or peer["self"]:
        return "-"
    return f"{peer['rtt_ms']:.1f} ms"


_WHO: Final[tuple[Column[Peer], ...]] = (
    Column("NAME", lambda peer: name_of(peer) + (" (this node)" if peer["self"] else "")),
    Column("STATE", lambda peer: str(peer["state"])),
    Column("SINCE", lambda peer: ago(peer["since"]), 1, right=True),
    Column("OPERATOR", lambda peer: short(peer["operator"]), 4),
    Column("ROLES", lambda peer: ", ".join(peer["roles"]), 7),
    Column("CPUS", lambda peer: number(peer["cpus"]), 3, right=True),
    Column("MEMORY", lambda peer: size(peer["memory_bytes"]), 3, right=True),
    Column("GPUS", lambda peer: str(len(peer["gpus"])), 4, right=True),
    Column("LOAD", load_of, 2, right=True),
    Column("RTT", rtt_of, 2, right=True),
    Column("RECORD", lambda peer: "{}.{}".format(*peer["record"]), 6, right=True),
    Column("VERSION", lambda peer: short(peer["version"]), 5),
)
WITH_WHOLE_IDS: Final[tuple[Column[Peer], ...]] = (Column("NODE", lambda peer: str(peer["node"])), *_WHO)
WITH_SHORT_IDS: Final[tuple[Column[Peer], ...]] = (Column("NODE", lambda peer: str(peer["node"])[:ID_CHARS]), *_WHO)


def by_name(peers: Iterable[Peer]) -> list[Peer]:
    """This node, then the others by their names, whoever is gone last."""
    return sorted(peers, key=lambda peer: (not peer["self"], peer["state"] in GONE, peer["name"], peer["node"]))


def by_interest(peers: Iterable[Peer], wall: float) -> list[Peer]:
    """What somebody who watches should see first: the doubtful, the news, who died of late; history last."""

    def key(peer: Peer) -> tuple[int, float, str]:
        age = wall - peer["since"]
        if peer["state"] in ("suspect", "draining"):
            return 0, age, peer["name"]
        if age < NEWS_S:
            return 1, age, peer["name"]
        if peer["state"] in GONE:
            return (2 if age < HISTORY_S else 5), age, peer["name"]
        return (3 if peer["self"] else 4), 0.0, peer["name"]

    return sorted(peers, key=key)


def summary(peers: Iterable[Peer]) -> str:
    """How many there are in each state."""
    counts = Counter(peer["state"] for peer in peers)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    total = counts.total()
    return f"{total} node{'s' if total != 1 else ''}: {', '.join(parts)}"
