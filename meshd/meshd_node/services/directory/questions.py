"""Questions on their way: over the session with whom they are for, or waiting for one."""

from collections.abc import Sequence
from typing import Protocol

from meshd_node.core.directory.effects import Ask
from meshd_node.net.link import Link
from meshd_protocol.ids import NodeId


class Transport(Protocol):
    """What is needed of the sessions with other nodes."""

    def link(self, node: NodeId) -> Link | None:
        """The session with a node, if there is one."""
        ...

    def dial(self, node: NodeId | None, addresses: Sequence[str]) -> None:
        """Try for a session, in the background."""
        ...

    def flush(self) -> None:
        """Send what was queued."""
        ...


class Questions:
    """Each ends with `settled`, or with its node's session or dial. The machine gives up by itself after a time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._waiting: dict[NodeId, list[Ask]] = {}
        self._sent: dict[NodeId, set[int]] = {}

    def ask(self, ask: Ask, addresses: Sequence[str]) -> None:
        """Send a question; dial first if there is no session, at these addresses."""
        node = NodeId(ask.contact.node)
        link = self._transport.link(node)
        if link is not None:
            self._send(link, ask)
            return
        waiting = self._waiting.setdefault(node, [])
        waiting.append(ask)
        if len(waiting) == 1:
            self._transport.dial(node, addresses)

    def settled(self, node: NodeId, query: int) -> None:
        """It was answered."""
        self._sent.get(node, set()).discard(query)

    def link_up(self, link: Link) -> None:
        """Send what waited for this session."""
        for ask in self._waiting.pop(link.peer.node, ()):
            self._send(link, ask)

    def failed(self, node: NodeId) -> list[int]:
        """The session with a node ended, or a dial did without one: what nobody will answer now."""
        return [*(ask.query for ask in self._waiting.pop(node, ())), *sorted(self._sent.pop(node, ()))]

    def _send(self, link: Link, ask: Ask) -> None:
        link.send(ask.message, ask.query)
        self._sent.setdefault(link.peer.node, set()).add(ask.query)
