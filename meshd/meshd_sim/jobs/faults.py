"""The kinds of faults in a world of jobs, and which of them a seed has."""

import random
from collections.abc import Collection
from enum import Enum
from typing import Final


class JobFault(Enum):
    """What may go wrong. Those of nodes and links happen at some rate, the others are how nodes are."""

    KILL = "kill"
    OUTAGE = "outage"
    FREEZE = "freeze"
    STALL = "stall"
    RESET = "reset"
    HALF_OPEN = "half-open"
    CUT = "cut"
    DRAIN = "drain"
    REVOKE = "revoke"
    DRIFT = "drift"
    DYING_WORKERS = "dying-workers"
    LIARS = "liars"
    COLLUDERS = "colluders"
    CHEATS = "cheats"
    SILENT = "silent"


# How often those that happen do, beside each other.
_WEIGHTS: Final = {
    JobFault.KILL: 1.0,
    JobFault.OUTAGE: 1.0,
    JobFault.FREEZE: 1.0,
    JobFault.STALL: 4.0,
    JobFault.RESET: 1.0,
    JobFault.HALF_OPEN: 1.0,
    JobFault.CUT: 0.5,
    JobFault.DRAIN: 0.5,
    JobFault.REVOKE: 0.25,
}


def draw_rates(rng: random.Random, allowed: Collection[JobFault]) -> dict[JobFault, float]:
    """Faults per minute. Most do not happen in most worlds: what happens all the time hides what happens seldom.

    The same seed draws the same for each kind, whichever others are allowed.
    """
    drawn = {kind: weight * rng.choice([0.0, 0.0, 2.0, 10.0]) for kind, weight in _WEIGHTS.items()}
    return {kind: rate for kind, rate in drawn.items() if rate and kind in allowed}


def draw_kinds(rng: random.Random, allowed: Collection[JobFault]) -> frozenset[JobFault]:
    """Which of the others this world has: each on or off."""
    drawn = [kind for kind in JobFault if kind not in _WEIGHTS and rng.random() < 0.4]
    return frozenset(drawn) & frozenset(allowed)
