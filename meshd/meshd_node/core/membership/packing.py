"""How signed states become messages that stay on the control connection."""

from collections.abc import Iterable
from typing import Final

from meshd_node.core.membership.parcel import size_of
from meshd_protocol.limits import CONTROL_BYTES_MAX, REVOCATIONS_PER_MESSAGE_MAX, STATES_PER_MESSAGE_MAX
from meshd_protocol.messages.membership import SignedRevocation, SignedState, States

# A message is closed at this size: above CONTROL_BYTES_MAX it would travel in bulk, and no longer in order.
_MESSAGE_BYTES: Final = CONTROL_BYTES_MAX - 1_024


def pack(states: Iterable[SignedState], revocations: Iterable[SignedRevocation], room: int) -> tuple[list[States], int]:
    """Put as many as `room` bytes hold into messages, revocations first; return these, and how many bytes they took.

    A single record always fits: it would never be sent otherwise.
    """
    messages: list[States] = []
    spent = size = 0
    records: list[SignedRevocation | SignedState] = [*revocations, *states]
    for signed in records:
        added = size_of(signed)
        if spent and spent + added > room:
            break
        if not messages or size + added > _MESSAGE_BYTES or _full(messages[-1]):
            messages.append(States([], []))
            size = 0
        if isinstance(signed, SignedState):
            messages[-1].states.append(signed)
        else:
            messages[-1].revocations.append(signed)
        size += added
        spent += added
    return messages, spent


def _full(message: States) -> bool:
    return len(message.states) == STATES_PER_MESSAGE_MAX or len(message.revocations) == REVOCATIONS_PER_MESSAGE_MAX
