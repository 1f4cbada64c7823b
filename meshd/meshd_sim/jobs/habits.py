"""How a node's workers, and the node itself, behave: rates of each fault, most of them zero in most worlds."""

import random
from collections.abc import Collection
from dataclasses import dataclass

from meshd_sim.jobs.faults import JobFault

HONEST_RING = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Chances are for each unit, unless said otherwise. Nodes of one `ring` tell the same lie."""

    slowness: float = 1.0  # units take so many times as long as they say
    start_s: float = 0.05  # until a worker is ready
    start_failures: float = 0.0  # of workers
    worker_deaths: float = 0.0
    ring: bytes = HONEST_RING
    lies: float = 0.0
    silent: bool = False  # takes work and answers nothing
    cheats: float = 0.0  # of reports: sent twice, for what was not asked, or not covered by their receipt

    @property
    def honest(self) -> bool:
        """Whether every result of this node is what its workers found."""
        return not self.lies and not self.cheats


def draw_habits(rng: random.Random, kinds: Collection[JobFault], *, trusted: bool) -> Habits:
    """One node's. A trusted node is wrong about nothing: its word alone is believed."""
    bad = rng.random() < 0.4 and not trusted
    colluding = rng.random() < 0.5 and bad and JobFault.COLLUDERS in kinds
    lying = colluding or (bad and JobFault.LIARS in kinds)
    slowness, start_s = rng.choice([0.5, 1.0, 1.0, 4.0]), rng.choice([0.02, 0.1, 0.5])
    start_failures, worker_deaths = rng.choice([0.0, 0.3]), rng.choice([0.0, 0.02, 0.1])
    lies, silent, cheats, ring = rng.choice([0.2, 1.0]), rng.random() < 0.3, rng.choice([0.1, 0.5]), rng.randbytes(4)
    dying = JobFault.DYING_WORKERS in kinds
    return Habits(
        slowness=slowness,
        start_s=start_s,
        start_failures=start_failures if dying else 0.0,
        worker_deaths=worker_deaths if dying else 0.0,
        ring=b"ring" if colluding else ring,
        lies=lies if lying else 0.0,
        silent=silent and bad and JobFault.SILENT in kinds,
        cheats=cheats if bad and JobFault.CHEATS in kinds else 0.0,
    )
