"""A plain roster in place of membership: every node knows every other and keeps a session with it."""

from collections.abc import Callable
from typing import Final

from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId
from meshd_sim.process import Process

# Of two nodes that could dial each other, the one with the smaller id does at once.
_FIRST_S: Final = 0.05
_SECOND_S: Final = 3.0
_AGAIN_S: Final = 1.0


class Acquaintances:
    """A part that dials. `met` is told of each session, after the other parts were."""

    def __init__(self, process: Process, addresses: dict[NodeId, str], met: Callable[[NodeId], None]) -> None:
        self._process = process
        self._addresses = addresses
        self._met = met

    def start(self) -> None:
        """Look for everybody."""
        for node in self._addresses:
            self._seek_in(_FIRST_S if self._process.node < node else _SECOND_S, node)

    def link_up(self, node: NodeId, address: str) -> None:
        """A session began."""
        self._met(node)

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        """A session ended: look for the node again."""
        self._seek_in(_AGAIN_S, node)

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        """A dial ended without a session: try again."""
        if node is not None:
            self._seek_in(_AGAIN_S, node)

    def message(self, sender: NodeId, message: Message, stream: int) -> None:
        """It answers to none."""

    def _seek_in(self, delay_s: float, node: NodeId) -> None:
        self._process.after(delay_s, lambda: self._seek(node))

    def _seek(self, node: NodeId) -> None:
        if node != self._process.node and self._process.admits(node):
            self._process.dial(node, [self._addresses[node]])
