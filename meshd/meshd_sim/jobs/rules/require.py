"""How a rule says that it is broken."""

from meshd_sim.checkers.broken import Broken


def require(holds: bool, number: int, text: str) -> None:
    """Raise `Broken` for the invariant of this number, unless it holds."""
    if not holds:
        raise Broken(number, text)
