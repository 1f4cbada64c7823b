"""How a node's workers, and the node itself, behave: rates of each fault, most of them zero in most worlds."""

import random
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Mischief:
    """Which faults this world has at all."""

    dying_workers: bool = False
    liars: bool = False
    colluders: bool = False
    cheats: bool = False
    silent: bool = False

    @classmethod
    def drawn(cls, rng: random.Random, allowed: bool) -> "Mischief":
        """Each on or off: faults that are always on hide what they do one by one."""
        if not allowed:
            return cls()
        dying, liars, colluders, cheats, silent = (rng.random() < 0.4 for _ in range(5))
        return cls(
            dying_workers=dying,
            liars=liars,
            colluders=colluders,
            cheats=cheats,
            silent=silent,
        )

    def habits(self, rng: random.Random, *, trusted: bool) -> Habits:
        """One node's. A trusted node is wrong about nothing: its word alone is believed."""
        bad = not trusted and rng.random() < 0.4
        colluding = bad and self.colluders and rng.random() < 0.5
        lying = colluding or (bad and self.liars)
        return Habits(
            slowness=rng.choice([0.5, 1.0, 1.0, 4.0]),
            start_s=rng.choice([0.02, 0.1, 0.5]),
            start_failures=rng.choice([0.0, 0.3]) if self.dying_workers else 0.0,
            worker_deaths=rng.choice([0.0, 0.02, 0.1]) if self.dying_workers else 0.0,
            ring=b"ring" if colluding else rng.randbytes(4),
            lies=rng.choice([0.2, 1.0]) if lying else 0.0,
            silent=bad and self.silent and rng.random() < 0.3,
            cheats=rng.choice([0.1, 0.5]) if bad and self.cheats else 0.0,
        )
