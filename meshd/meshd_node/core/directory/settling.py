"""When a node looks around itself and publishes what it has: once it knows somebody, and when its mesh has grown."""

import math
import random
from typing import Final

from meshd_node.core.directory.config import DirectoryConfig

# Of 20 nodes nearest to a place, 5 are still nearest when the mesh is four times as large.
_GROWTH: Final = 4


class Settling:
    """A bounded number of times: each needs four times the contacts of the last one."""

    def __init__(self, rng: random.Random, config: DirectoryConfig) -> None:
        self._rng = rng
        self._config = config
        self._contacts = 0
        self.at = math.inf

    @property
    def settled(self) -> bool:
        """Whether it was time once."""
        return self._contacts > 0

    def grown(self, contacts: int, now: float) -> None:
        """The table has so many contacts now."""
        if math.isinf(self.at) and contacts >= max(1, _GROWTH * self._contacts):
            self.at = now + self._config.settle_s * self._rng.uniform(0.5, 1.0)

    def due(self, contacts: int, now: float) -> bool:
        """Whether it is time to look around; then it is not, until the table has grown again."""
        if now < self.at:
            return False
        self._contacts, self.at = max(1, contacts), math.inf
        return True
