"""What one measurement found: a figure, or why there is none."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything is measured."""

    units: int = 10_000
    calls: int = 1_000_000
    chunk: int = 1_000
    trips: int = 300
    naps: int = 200
    imports: int = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` is in the measure's unit; `None` where it would mean nothing, for one because units were lost."""

    value: float | None
    # What `value` is made of, in the same unit, by name.
    parts: dict[str, float] = field(default_factory=dict)
    # Of how many units a result came, where some may be lost.
    answered: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One measurement of one system in one round. Without a figure, `problem` says why in one line.

    What a system does not offer (`offered`) is no failure.
    """

    peer: str
    measure: str
    round: int
    figure: Figure | None
    problem: str = ""
    offered: bool = True

    @property
    def has_failed(self) -> bool:
        return self.offered and bool(self.problem)

    def as_json(self) -> dict[str, Any]:
        figure = self.figure or Figure(None)
        return {
            "peer": self.peer,
            "measure": self.measure,
            "round": self.round,
            "value": figure.value,
            "parts": figure.parts,
            "answered": figure.answered,
            "problem": self.problem,
            "offered": self.offered,
        }
