"""How two nodes find out what the other lacks: digests of all that one holds, in windows of a bounded size.

A window below the full size covers every key. One of the full size covers the keys from its smallest to its largest;
neighbouring windows share a key, so that nothing between two of them is forgotten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from meshd_protocol.ids import NodeId
from meshd_protocol.limits import CONTROL_BYTES_MAX, STATE_DIGESTS_MAX, STATES_PER_MESSAGE_MAX
from meshd_protocol.messages.peer import SignedState, StateDigest, StateDigests, States, StateWants
from meshd_protocol.records import Slot, Version

Key: TypeAlias = tuple[NodeId, Slot]

# What one message of digests makes us send unasked: 512 states of about 1 KB. The rest the peer asks for, at its pace,
# once it sees our digests; so a few bytes never make us send megabytes.
UNASKED_STATES_MAX: Final = 4 * STATES_PER_MESSAGE_MAX
# A message of states is closed at this size: above CONTROL_BYTES_MAX it would travel in bulk, and no longer in order.
STATES_BYTES: Final = CONTROL_BYTES_MAX - 1024
# MessagePack's heads of one state: the array, body and signature.
_STATE_ENVELOPE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Window:
    """What a peer's digests say: its versions, and of which keys they say that it has none."""

    versions: dict[Key, Version]
    first: Key | None
    last: Key | None

    @classmethod
    def of(cls, digests: Sequence[StateDigest]) -> "Window":
        """Read a message's digests, in whatever order they come."""
        versions = {(digest.publisher, digest.slot): digest.version for digest in digests}
        if len(digests) < STATE_DIGESTS_MAX:
            return cls(versions, None, None)
        return cls(versions, min(versions), max(versions))

    def lacks(self, key: Key, version: Version) -> bool:
        """Whether the peer would gain by this version."""
        theirs = self.versions.get(key)
        if theirs is not None:
            return theirs < version
        return (self.first is None or self.first <= key) and (self.last is None or key <= self.last)


def windows(held: dict[Key, Version]) -> list[StateDigests]:
    """Digests of all of `held`, ready to send."""
    digests = [StateDigest(node, slot, version) for (node, slot), version in sorted(held.items())]
    if len(digests) < STATE_DIGESTS_MAX:
        return [StateDigests(digests)]
    step = STATE_DIGESTS_MAX - 1
    starts = [*range(0, len(digests) - STATE_DIGESTS_MAX, step), len(digests) - STATE_DIGESTS_MAX]
    return [StateDigests(digests[start : start + STATE_DIGESTS_MAX]) for start in starts]


def want(keys: Sequence[Key]) -> list[StateWants]:
    """Ask for these, certificates first: an offer can not be checked before the `core` of its publisher."""
    ordered = sorted(keys, key=lambda key: (key[1], key[0]))
    size = STATES_PER_MESSAGE_MAX
    return [StateWants(ordered[start : start + size]) for start in range(0, len(ordered), size)]


def send(states: Sequence[SignedState]) -> list[States]:
    """Put states into messages in this order. Each stays on the control connection, so that the order holds."""
    messages: list[States] = []
    batch: list[SignedState] = []
    size = 0
    for state in states:
        if batch and (len(batch) == STATES_PER_MESSAGE_MAX or size + _size(state) > STATES_BYTES):
            messages.append(States(batch))
            batch, size = [], 0
        batch.append(state)
        size += _size(state)
    return [*messages, States(batch)] if batch else messages


def _size(state: SignedState) -> int:
    return len(state.body) + len(state.signature) + _STATE_ENVELOPE_BYTES
