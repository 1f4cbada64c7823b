"""What the transport tells the daemon. All of it is synchronous: whoever is called decides, and sends, at once."""

from collections.abc import Callable
from typing import Protocol

from meshd_node.net.link import Link
from meshd_protocol.certificates import Invited
from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.peer import SignRequest


class Handler(Protocol):
    """One object receives everything of a pool.

    What it sends while it is called leaves when it returns. A `RemoteProtocolError` that it raises from `messages`
    ends that link with the error's close code; any other exception is a bug and ends the daemon.
    """

    def link_up(self, link: Link) -> None:
        """A session began. Nothing was received on it yet."""
        ...

    def messages(self, link: Link, batch: list[tuple[Message, int]]) -> None:
        """All messages of one read, in order, each with its stream. Large ones are not in order with small ones."""
        ...

    def link_down(self, link: Link, reason: str, refused: bool) -> None:
        """A session ended, once for each `link_up`. `refused`: its address answered that nobody listens there."""
        ...

    def dial_failed(self, node: NodeId | None, address: str, reason: str, refused: bool) -> None:
        """A dial ended without a session. `node` is None if only the address was known."""
        ...

    def keeps(self, link: Link) -> bool:
        """Whether a session that nobody used for `idle_ms` may be needed all the same."""
        ...

    def invited(self, invited: Invited, message: SignRequest, reply: Callable[[Message], None]) -> None:
        """The holder of an invite asks. Call `reply` now or within `invite_timeout_ms`; later it does nothing."""
        ...
