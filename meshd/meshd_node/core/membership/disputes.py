"""Members of whom one says that they are gone and another that they live, at the same version.

They themselves are asked. Who lives says something newer, which settles it. A member that was never suspected here, and
of whom rumours of its end were missed, does not answer: else it would live on in views that pass it on to newcomers.
"""

from typing import Final

from msgspec import Struct, field

from meshd_protocol.ids import NodeId
from meshd_protocol.records import Version

_DISPUTES_MAX: Final = 64
# Rounds of repair for which a peer's word is remembered.
_ROUNDS: Final = 6
# So many different peers must hold a member for dead before it counts that this node can not reach it: a pair of nodes
# that can not reach each other, and one liar, are no evidence.
_SAYERS_MIN: Final = 2


class Dispute(Struct, gc=False):
    """Who disputes this version: says that it is gone, or else that it lives. `until`: when their word is forgotten.

    `heeded` are those because of whom the member was asked, about whatever version.
    """

    version: Version
    until: float
    sayers: set[NodeId] = field(default_factory=set)
    heeded: set[NodeId] = field(default_factory=set)


class Disputes:
    """The disputes of one node, bounded."""

    __slots__ = ("_lasts_s", "_open")

    def __init__(self, repair_s: float) -> None:
        self._lasts_s = _ROUNDS * repair_s
        self._open: dict[NodeId, Dispute] = {}

    def add(self, node: NodeId, version: Version, sayer: NodeId, now: float) -> bool:
        """Remember a peer's word; return whether the member is to be asked now: once for each who disputes it.

        A peer that disputes each version anew, and had it dialled each time, would make it publish without end.
        """
        dispute = self._open.get(node)
        if dispute is None or dispute.until <= now:
            if dispute is None and len(self._open) >= _DISPUTES_MAX:
                return False
            dispute = self._open[node] = Dispute(version, now)
        if version > dispute.version:
            dispute.version, dispute.sayers = version, set()
        if version < dispute.version or sayer in dispute.sayers:
            return False
        heeded = sayer in dispute.heeded
        dispute.sayers.add(sayer)
        dispute.heeded.add(sayer)
        dispute.until = now + self._lasts_s
        return not heeded

    def version(self, node: NodeId, now: float) -> Version | None:
        """The version of a member that is in dispute."""
        dispute = self._open.get(node)
        return dispute.version if dispute is not None and dispute.until > now else None

    def confirmed(self, node: NodeId, version: Version, now: float) -> bool:
        """This node could not reach a member: whether enough others say that this version of it is gone.

        What was said of an older one is settled: a dial that began before the end of a split fails when all are one.
        """
        dispute = self._open.get(node)
        if dispute is None or dispute.until <= now or dispute.version < version:
            return False
        return len(dispute.sayers) >= _SAYERS_MIN

    def prune(self, now: float) -> None:
        """Forget what is over."""
        self._open = {node: dispute for node, dispute in self._open.items() if dispute.until > now}
