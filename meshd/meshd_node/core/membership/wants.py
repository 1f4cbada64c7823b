"""What was asked of somebody, so that it is not asked of three others at once."""

from collections import OrderedDict
from typing import Final

# More than one message can ask for, and 400 KB.
_WANTS_MAX: Final = 4_096


class Wants:
    """Handles that were asked for, until an answer can be expected no more."""

    __slots__ = ("_patience_s", "_until")

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._until: OrderedDict[bytes, float] = OrderedDict()  # the first to run out is the first

    def ask(self, handle: bytes, now: float) -> bool:
        """Whether to ask for this now. Then it counts as asked."""
        if self._until.get(handle, now) > now:
            return False
        self._until.pop(handle, None)
        self._until[handle] = now + self._patience_s
        if len(self._until) > _WANTS_MAX:
            self._until.popitem(last=False)
        return True

    def answered(self, handle: bytes) -> bool:
        """Whether this was asked for. Then it is no more."""
        return self._until.pop(handle, None) is not None
