"""What services need of the transport: the session with a node."""

from typing import Protocol

from meshd_node.net.link import Link
from meshd_protocol.ids import NodeId


class Links(Protocol):
    """Where the sessions with other nodes are."""

    def link(self, node: NodeId) -> Link | None:
        """The session with a node, if there is one."""
        ...
