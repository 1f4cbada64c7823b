"""One measured figure beside its goal."""

from dataclasses import dataclass

# Within a tenth of the goal is reached.
_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A figure; `goal` is the most it may be, or the least where `least`. `how` says over what it was taken."""

    name: str
    measured: float
    goal: float
    unit: str
    how: str
    least: bool = False

    @property
    def reached(self) -> bool:
        """Whether the goal is reached, within its tolerance."""
        if self.least:
            return self.measured >= self.goal * (1.0 - _TOLERANCE)
        return self.measured <= self.goal * (1.0 + _TOLERANCE)

    def __str__(self) -> str:
        bound = "≥" if self.least else "≤"
        verdict = "" if self.reached else "  MISSED"
        return f"{self.name:46} {self.measured:12,.3f} {self.unit:9} {bound} {self.goal:<10,g} {self.how}{verdict}"
