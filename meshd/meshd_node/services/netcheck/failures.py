"""Dials that failed, and why: the last of each node or address."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from meshd_protocol.ids import NodeId

# Each holds a line of text: 256 KB at most.
KEPT: Final = 512


@dataclass(frozen=True, slots=True)
class DialFailure:
    """Why there is no session: `node` is None where only the address was known. `at` is on the monotonic clock."""

    node: NodeId | None
    address: str
    reason: str
    at: float


class DialFailures:
    """Forgets a failure when the node is met, and the oldest when there are too many."""

    def __init__(self) -> None:
        self._last: OrderedDict[NodeId | str, DialFailure] = OrderedDict()

    def failed(self, failure: DialFailure) -> None:
        """A dial ended without a session."""
        key = failure.address if failure.node is None else failure.node
        self._last.pop(key, None)
        self._last[key] = failure
        if len(self._last) > KEPT:
            self._last.popitem(last=False)

    def met(self, node: NodeId, address: str | None) -> None:
        """There is a session with this node; `address` is where it was dialled, if it was."""
        self._last.pop(node, None)
        if address is not None:
            self._last.pop(address, None)

    def all(self) -> list[DialFailure]:
        """The newest last."""
        return list(self._last.values())
