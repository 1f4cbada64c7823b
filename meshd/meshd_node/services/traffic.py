"""How much was sent, by kind of message."""

from collections import Counter

from meshd_protocol.framing import Message


class Traffic:
    """Counts messages and their bytes on the wire, before TLS adds its own."""

    def __init__(self) -> None:
        self._messages: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def sent(self, message: Message, size: int) -> None:
        """A message left, or was queued to leave."""
        kind = type(message).__name__
        self._messages[kind] += 1
        self._bytes[kind] += size

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Messages and bytes of each kind, the most bytes first."""
        return {kind: (self._messages[kind], size) for kind, size in self._bytes.most_common()}
