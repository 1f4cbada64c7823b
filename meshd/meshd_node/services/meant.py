"""Which members a person means by a name, an id, or the beginning of one."""

from collections.abc import Sequence
from typing import Final, Protocol

from meshd_node.core.membership.effects import Member
from meshd_protocol.errors import MalformedId
from meshd_protocol.ids import NodeId, from_text, to_text

# The beginning of an id is taken for one from here on.
PREFIX_CHARS: Final = 4


class Members(Protocol):
    """Where the members are known."""

    def members(self) -> list[Member]:
        """Every known member, this node included."""
        ...

    def member(self, node: NodeId) -> Member | None:
        """One of them."""
        ...


def members_meant(members: Members, text: str) -> list[Member]:
    """The member of this id; else those of this name; else those whose ids begin so."""
    # In this order: anybody may call itself what another one's id is.
    whole = id_meant(text)
    if whole is not None and (member := members.member(NodeId(whole))) is not None:
        return [member]
    everybody = members.members()
    named = [member for member in everybody if member.core.name == text]
    if named or len(text) < PREFIX_CHARS:
        return named
    return [member for member in everybody if to_text(member.node).startswith(text.lower())]


def ambiguous(members: Sequence[Member], text: str) -> str:
    """Say that a text means several, and which. Who is gone counts: what is ordered by a name may be for good."""
    ids = ", ".join(f"{to_text(member.node)} ({member.state.value})" for member in members)
    return f"{len(members)} nodes are meant by {text!r}, {ids}"


def unknown(text: str) -> str:
    """Say that a text means nobody."""
    return f"no node is called {text!r}, and no id begins so (of at least {PREFIX_CHARS} characters)"


def id_meant(text: str) -> bytes | None:
    """The id that a text is, if it is one."""
    try:
        return from_text(text)
    except MalformedId:
        return None
