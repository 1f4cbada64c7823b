"""How a checker says that an invariant does not hold."""


class Broken(Exception):
    """An invariant, by its number in the README, and what was seen."""

    def __init__(self, invariant: int, seen: str) -> None:
        super().__init__(f"invariant {invariant}: {seen}")
        self.invariant = invariant
