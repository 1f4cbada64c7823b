"""The revocations service: what this node knows of them, on its disk, against its peers, and against itself.

Membership spreads them; here they take effect. Spec: 09-admission.md, section 6.
"""

from collections.abc import Callable
from typing import Final

from meshd_node.core.membership.events import VerifiedRevocation
from meshd_node.core.membership.revocations import Revocations
from meshd_node.errors import MeshdError
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.revoked import RevokedFile
from meshd_node.identity.revoking import operator_of, revoke_node
from meshd_node.log import log
from meshd_node.seams import Seams
from meshd_node.services.budget import Budget
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import CertificateOutOfDate, RemoteProtocolError
from meshd_protocol.ids import NodeId, to_text
from meshd_protocol.messages.membership import SignedRevocation
from meshd_protocol.records import Revocation
from meshd_protocol.revocations import read_revocation, verify_revocation

# Proofs that peers show when they refuse this node: an honest one is enough, and a liar does not keep us busy.
_SHOWN_PER_S: Final = 4
_SHOWN_BURST: Final = 16

Revoked = Callable[[list[VerifiedRevocation]], None]


class RevocationService:
    """What is revoked, as this node knows it. All of it is synchronous; what is new is on the disk before it counts."""

    def __init__(self, me: Certified, folder: NodeFolder, root_key: bytes, seams: Seams) -> None:
        """Read what was kept. Raise `FolderDamaged` if that can not be read, `NodeRevoked` if this node is among it."""
        self._me = me
        self._folder = folder
        self._root_key = root_key
        self._seams = seams
        self._file = RevokedFile(folder.revocations_file)
        self._held = Revocations()
        self._budget = Budget(_SHOWN_PER_S, _SHOWN_BURST)
        self._spread: Revoked = _nobody
        self._cut_off: Revoked = _nobody
        self._on_own: Callable[[Revocation], None] = _no_end
        self.kept = self._load()

    def connect(self, spread: Revoked, cut_off: Revoked, on_own: Callable[[Revocation], None]) -> None:
        """Hand in who tells the mesh, who ends sessions and leases, and who ends this node if it is revoked itself."""
        self._spread = spread
        self._cut_off = cut_off
        self._on_own = on_own

    # --- what others ask --------------------------------------------------------------------------------------------

    def against(self, peer: Certified) -> SignedRevocation | None:
        """What ends a peer's certificate, if anything does."""
        held = self._in_force(peer.node, peer.operator)
        return None if held is None else held.signed

    def revoked(self, node: NodeId, operator: str) -> bool:
        """Whether the certificates of this operator's node have ended."""
        return self._in_force(node, operator) is not None

    def operator_of(self, node: NodeId) -> str | None:
        """Whom a node belonged to that this node's issuer let in, though no member knows it any more."""
        return operator_of(self._folder, node)

    # --- what others tell -------------------------------------------------------------------------------------------

    def revoke(self, node: NodeId, operator: str, reason: str) -> Revocation:
        """Revoke a node here and everywhere, on the word of this node's issuer. Raise `MeshdError` if it may not."""
        held = self._in_force(node, operator)
        if held is not None and not reason:
            reason = held.revocation.reason  # the later one takes its place everywhere: what was said stays said
        record, signed = revoke_node(self._folder, self._root_key, node, operator, reason, self._seams.wall())
        verified = VerifiedRevocation(signed, record)
        self.learned([verified])
        self._spread([verified])
        return record

    def learned(self, revocations: list[VerifiedRevocation]) -> None:
        """Membership was told of these, and has checked them."""
        new = [each for each in revocations if self._held.add(each) is not None]
        if not new:
            return
        self._keep(new)
        for record in (each.revocation for each in new):
            log.warning("node_revoked", node=to_text(record.node), operator=record.operator, reason=record.reason)
        self._cut_off(new)
        for each in new:
            if self._is_own(each.revocation):
                self._on_own(each.revocation)

    def shown(self, revocation: SignedRevocation) -> None:
        """A peer refuses this node because of this. It is believed if it proves itself; else it was a peer's lie."""
        try:
            record = read_revocation(self._root_key, revocation, self._seams.wall())
            if not self._is_own(record) or not self._budget.spend(1, now=self._seams.monotonic()):
                return
            record = verify_revocation(self._root_key, revocation, self._seams.wall())
        except RemoteProtocolError as error:
            log.warning("revocation_not_believed", reason=str(error))
            return
        self.learned([VerifiedRevocation(revocation, record)])

    # --- within -----------------------------------------------------------------------------------------------------

    def _load(self) -> list[VerifiedRevocation]:
        kept = [each for signed in self._file.load() if (each := self._read(signed)) is not None]
        for each in kept:
            self._held.add(each)
            if self._is_own(each.revocation):
                raise NodeRevoked.by(each.revocation)
        return kept

    def _read(self, signed: SignedRevocation) -> VerifiedRevocation | None:
        try:
            return VerifiedRevocation(signed, read_revocation(self._root_key, signed, self._seams.wall()))
        except CertificateOutOfDate:
            return None

    def _keep(self, new: list[VerifiedRevocation]) -> None:
        try:
            self._file.keep([(each.revocation, each.signed) for each in new], self._seams.wall())
        except MeshdError as error:
            # It holds as long as this daemon runs; after a restart the mesh tells it again.
            log.error("revocations_not_kept", reason=str(error))

    def _in_force(self, node: NodeId, operator: str) -> VerifiedRevocation | None:
        held = self._held.get(node, operator)
        return None if held is None or held.revocation.until_ms <= self._seams.wall() * 1_000 else held

    def _is_own(self, record: Revocation) -> bool:
        return record.node == self._me.node and record.operator == self._me.operator


class NodeRevoked(MeshdError):
    """This node's certificate was revoked: no other node speaks to it any more."""

    exit_code = 77

    @classmethod
    def by(cls, record: Revocation) -> "NodeRevoked":
        """Say why, as far as whoever did it said so."""
        why = f": {record.reason}" if record.reason.isprintable() and record.reason else ""
        return cls(f"this node was revoked{why}", "ask for a new token, and join with it in a new folder")


def _nobody(revocations: list[VerifiedRevocation]) -> None:
    """Before everything is built nobody is connected."""


def _no_end(revocation: Revocation) -> None:
    """A service that nobody connected ends nothing."""
