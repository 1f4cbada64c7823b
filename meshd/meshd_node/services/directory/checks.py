"""What a record must pass before the directory sees it, the cheap checks first. Spec: 14-directory.md."""

from collections.abc import Callable
from typing import Final, TypeVar

from meshd_node.core.directory.events import VerifiedRecord
from meshd_node.core.directory.storage import refusal
from meshd_node.seams import Seams
from meshd_protocol.certificates import Certified, verify_node_chain
from meshd_protocol.errors import BadSignature, CertificateOutOfDate, CertificateRefused, MalformedMessage
from meshd_protocol.ids import MeshId
from meshd_protocol.limits import CLOCK_SKEW_S
from meshd_protocol.messages.directory import SignedRecord, StoreOutcome
from meshd_protocol.records import DirectoryRecord, decode_record
from meshd_protocol.signing import Domain, Signed, verify

# Signature checks, at 60 to 110 us each: the record's own, and two for a chain.
CHECK_COST: Final = 1
CHAIN_COST: Final = 2
# One read brings the same few records from 20 nodes: what passed is not checked again.
_KEPT: Final = 256
# What only a liar hands out, or one that keeps what it never checked.
FORGED: Final = (BadSignature, CertificateRefused)

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class OverBudget(Exception):
    """The sender has used up the checks that it may make us do."""


class RecordChecks:
    """Checks the records of one mesh."""

    def __init__(self, mesh: MeshId, root_key: bytes, seams: Seams) -> None:
        self._mesh = mesh
        self._root_key = root_key
        self._seams = seams
        self._chains: dict[tuple[bytes, ...], Certified] = {}
        self._passed: dict[tuple[bytes, bytes], VerifiedRecord] = {}

    def refusal(self, record: DirectoryRecord) -> StoreOutcome | None:
        """What speaks against a record by itself, now."""
        return refusal(record, self._mesh, self._seams.wall())

    def of_sender(self, signed: SignedRecord, record: DirectoryRecord, sender: Certified) -> VerifiedRecord:
        """A peer's own record, whose certificate its session has proved; raise `BadSignature`."""
        verify(sender.key, Domain.RECORD, Signed(signed.body, signed.signature))
        return self.verified(signed, record, sender)

    def found(
        self, signed: SignedRecord, wanted: Callable[[DirectoryRecord], bool], spend: Callable[[int], bool]
    ) -> VerifiedRecord | None:
        """A record that somebody hands out; None if it is of no use and that need not be the fault of who has it.

        Raise `BadSignature` or `CertificateRefused` for what no honest node keeps, `OverBudget` when `spend` refuses.
        """
        try:
            record = decode_record(DirectoryRecord, signed.body)
        except MalformedMessage:
            return None  # of a later release
        if not wanted(record) or self.refusal(record) is not None:
            return None
        passed = self._passed.get((signed.body, signed.signature))
        if passed is not None:
            return passed
        try:
            publisher = self._chain(tuple(signed.certificates), spend)
        except CertificateOutOfDate:
            return None
        if publisher.node != record.publisher:
            raise CertificateRefused("a record with the certificate of another node")
        if not spend(CHECK_COST):
            raise OverBudget
        verify(publisher.key, Domain.RECORD, Signed(signed.body, signed.signature))
        verified = self.verified(signed, record, publisher)
        _remember(self._passed, (signed.body, signed.signature), verified)
        return verified

    def verified(self, signed: SignedRecord, record: DirectoryRecord, publisher: Certified) -> VerifiedRecord:
        """What the machine is told of a record that holds."""
        ends_in = record.expires_ms / 1_000 - self._seams.wall()
        return VerifiedRecord(signed, record, publisher.operator, self._seams.monotonic() + ends_in)

    def _chain(self, certificates: tuple[bytes, ...], spend: Callable[[int], bool]) -> Certified:
        known = self._chains.get(certificates)
        if known is None:
            if not spend(CHAIN_COST):
                raise OverBudget
            known = verify_node_chain(self._root_key, certificates, self._seams.wall())
            _remember(self._chains, certificates, known)
        if known.not_after + CLOCK_SKEW_S < self._seams.wall():
            raise CertificateOutOfDate("the certificate of a record's publisher has ended")
        return known


def _remember(kept: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep it in place of the oldest."""
    if len(kept) >= _KEPT:
        del kept[next(iter(kept))]
    kept[key] = value
