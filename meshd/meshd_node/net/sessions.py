"""Which connection is a peer's session: at most one, the same one on both sides, however dials cross.

The dialler is not up before the server has accepted, and the server accepts after the dialler's hello; so whoever
decides knows enough, and nothing can have been sent on a connection that loses. Spec: 08-peer.md, section 3.
"""

from collections import OrderedDict
from collections.abc import Iterator

import trio

from meshd_node.net.link import Link
from meshd_protocol.ids import NodeId


class Sessions:
    """All sessions, the least recently used first, and the dials that wait to be accepted."""

    def __init__(self, own: NodeId) -> None:
        self._own = own
        self._links: OrderedDict[NodeId, Link] = OrderedDict()
        self._waiting: dict[NodeId, trio.CancelScope] = {}
        self._arrivals: dict[NodeId, trio.Event] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links.values()))

    def get(self, node: NodeId) -> Link | None:
        """The session with a peer, unless it is ending."""
        link = self._links.get(node)
        return link if link is not None and link.open else None

    def used(self, link: Link) -> None:
        """Put a session last in the order of those that have to go."""
        if self._links.get(link.peer.node) is link:
            self._links.move_to_end(link.peer.node)

    # --- the dialler's side -------------------------------------------------------------------------------------

    def begin_waiting(self, node: NodeId, scope: trio.CancelScope) -> bool:
        """Whether our hello may be sent to `node`. If so, `scope` is cancelled should its own dial be accepted."""
        if self.get(node) is not None or node in self._waiting:
            return False
        self._waiting[node] = scope
        return True

    def end_waiting(self, node: NodeId, scope: trio.CancelScope) -> None:
        """The dial was accepted, or it failed."""
        if self._waiting.get(node) is scope:
            del self._waiting[node]

    async def arrival(self, node: NodeId) -> None:
        """Wait for a session with `node`; bound this."""
        while self.get(node) is None:
            await self._arrivals.setdefault(node, trio.Event()).wait()

    # --- the server's side --------------------------------------------------------------------------------------

    def accepts(self, node: NodeId, greeted: int) -> bool:
        """Whether a connection that we greeted at serial `greeted` becomes the session with `node`.

        A session that began after the greeting may have crossed it: the dialler did not know. One that began before
        is dead to the dialler, which would not have answered otherwise: it came back.
        """
        link = self.get(node)
        if link is not None and link.session > greeted:
            return False
        # Both dials wait for acceptance: the one of the smaller id stays.
        return not (node in self._waiting and self._own < node)

    def add(self, link: Link) -> None:
        """Make `link` its peer's session, of which there must be no other. Our own dial to it is given up."""
        node = link.peer.node
        assert node not in self._links, "the session before it goes down first"
        self._links[node] = link
        waiting = self._waiting.pop(node, None)
        if waiting is not None:
            waiting.cancel()
        arrival = self._arrivals.pop(node, None)
        if arrival is not None:
            arrival.set()

    def known(self, node: NodeId) -> Link | None:
        """The session with a peer that was not reported as ended, though it may be ending."""
        return self._links.get(node)

    def surplus(self, links_max: int) -> list[Link]:
        """The least recently used sessions above the bound; the newest is none of them."""
        return list(self._links.values())[: max(0, len(self._links) - links_max)]

    def remove(self, link: Link) -> bool:
        """Forget a session that has ended; return whether it was known until now."""
        if self._links.get(link.peer.node) is not link:
            return False
        del self._links[link.peer.node]
        return True
