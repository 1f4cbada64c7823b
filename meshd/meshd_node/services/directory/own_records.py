"""What this node says in the directory: values made of what it is, signed in versions that rise."""

from collections.abc import Sequence
from typing import Final

from meshd_node.core.directory.effects import SignRecord
from meshd_node.seams import Seams
from meshd_protocol.certificates import Certified
from meshd_protocol.limits import CONTACT_ADDRESSES_MAX
from meshd_protocol.messages.directory import SignedRecord
from meshd_protocol.records import (
    CapabilityValue,
    ContactValue,
    DirectoryRecord,
    Offer,
    Version,
    encode_record,
)
from meshd_protocol.signing import Domain

_GPUS_MAX: Final = 8
_GPU_CHARS_MAX: Final = 64
_PYTHONS_MAX: Final = 8


class OwnRecords:
    """Signs for this node. Versions begin with the boot epoch, which is persisted."""

    def __init__(self, certified: Certified, boot_epoch: int, seams: Seams) -> None:
        self.certified = certified
        self._epoch = boot_epoch
        self._sequence = 0
        self._seams = seams

    def sign(self, wish: SignRecord) -> tuple[SignedRecord, DirectoryRecord, Certified]:
        """Make the next version of a record; also return whose certificate goes with it."""
        me = self.certified
        self._sequence += 1
        expires_ms = int((self._seams.wall() + wish.ttl_s) * 1_000)
        version = Version(self._epoch, self._sequence)
        record = DirectoryRecord(me.mesh, wish.kind, wish.name, me.node, version, expires_ms, wish.value)
        signed = self._seams.signer.sign(Domain.RECORD, encode_record(record))
        return SignedRecord(signed.body, signed.signature, list(me.chain)), record, me


def contact_value(addresses: Sequence[str]) -> bytes:
    """Where this node listens."""
    return encode_record(ContactValue(list(addresses[:CONTACT_ADDRESSES_MAX])))


def capability_value(offer: Offer) -> bytes:
    """What this node lends, as short as strangers need it."""
    gpus = [gpu.model[:_GPU_CHARS_MAX] for gpu in offer.gpus[:_GPUS_MAX]]
    return encode_record(
        CapabilityValue(offer.cpu_milli, offer.memory_bytes, gpus, offer.pythons[:_PYTHONS_MAX], offer.cage)
    )
