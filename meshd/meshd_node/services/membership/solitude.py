"""A node that is ready and finds nobody looks like one that is fine: its operator is told, once."""

import math
from typing import Final

from meshd_node.log import log

# A whole lab that starts again finds its seeds within seconds of each other.
_PATIENCE_S: Final = 10.0


class Solitude:
    """From the first moment when no seed has answered and no peer is there, until somebody is met."""

    def __init__(self) -> None:
        self._tell_at = math.inf
        self._told = False
        self._tried_last = ""

    def failed(self, address: str, now: float) -> None:
        """This address failed like all others, and there is no peer."""
        self._tried_last = address
        if not self._told:
            self._tell_at = min(self._tell_at, now + _PATIENCE_S)

    def met(self) -> None:
        """There is a peer."""
        self._tell_at, self._told = math.inf, False

    def next_at(self) -> float:
        """When `tick` has something to say."""
        return self._tell_at

    def tick(self, now: float) -> None:
        """Say it, if it is time."""
        if now >= self._tell_at:
            self._tell_at, self._told = math.inf, True
            log.warning("nobody_answers", tried_last=self._tried_last, see="meshd netcheck")
