"""What of a peer's message can be news at all: looked at before any signature is. Spec: 10-membership.md."""

from collections.abc import Iterable
from typing import Protocol

from meshd_protocol.ids import NodeId
from meshd_protocol.limits import STATES_PER_MESSAGE_MAX
from meshd_protocol.messages.membership import StateWants, handle_of
from meshd_protocol.records import Claim, Slot, State, Verdict, Version


class View(Protocol):
    """What membership knows already."""

    def version(self, node: NodeId, slot: Slot) -> Version | None:
        """The version that is held of one slot."""
        ...

    def revoked(self, node: NodeId) -> bool:
        """Whether a node has no voice any more."""
        ...

    def believes_accuser(self, accuser: NodeId, accused: NodeId) -> bool:
        """Whether a node may accuse another at all."""
        ...

    def holds_claim(self, accuser: NodeId, accused: NodeId, version: Version, verdict: Verdict) -> bool:
        """Whether exactly this was claimed before."""
        ...


def is_newer(view: View, state: State, heard: Version | None = None) -> bool:
    """Whether a state says more than what is held of its slot, or than `heard`, a version in the same message."""
    publisher = NodeId(state.publisher)
    held = heard or view.version(publisher, state.slot)
    return (held is None or state.version > held) and not view.revoked(publisher)


def may_count(view: View, claim: Claim) -> bool:
    """Whether an accusation comes from somebody who may accuse, and was not heard yet."""
    accuser, accused = NodeId(claim.accuser), NodeId(claim.accused)
    return (
        not view.revoked(accuser)
        and view.believes_accuser(accuser, accused)
        and not view.holds_claim(accuser, accused, claim.version, claim.verdict)
    )


def wants_of(publishers: Iterable[NodeId]) -> StateWants:
    """Ask for what proves who these are, and then for the rest: their certificates have not come yet."""
    handles = [handle_of(node, slot) for slot in Slot for node in publishers]
    return StateWants(b"".join(handles[:STATES_PER_MESSAGE_MAX]))
