"""What a digest of a record is made of: a handle that names it, and its version. Spec: 10-membership.md, section 3."""

import struct
from collections.abc import Iterator
from typing import Final

from meshd_node.core.membership.events import VerifiedRevocation
from meshd_node.core.membership.hashes import record_hash
from meshd_protocol.messages.membership import DIGEST_ENTRY_BYTES, GONE, HANDLE_BYTES, REVOCATION
from meshd_protocol.records import State, Version

PREFIX_BYTES: Final = HANDLE_BYTES - 1
_ENTRY: Final = struct.Struct(f">{PREFIX_BYTES}sBII")
_HANDLE: Final = struct.Struct(f">{PREFIX_BYTES}sB")
_WHOLE: Final = struct.Struct(f"{DIGEST_ENTRY_BYTES}s")
assert _ENTRY.size == DIGEST_ENTRY_BYTES
_HALF: Final = 1 << 32


def of_state(state: State, *, gone: bool = False) -> bytes:
    """Name a state and its version; `gone` if its publisher is dead to us, or left."""
    version = state.version
    slot = state.slot | GONE if gone else int(state.slot)
    return _ENTRY.pack(state.publisher[:PREFIX_BYTES], slot, version.epoch, version.sequence)


def of_revocation(revocation: VerifiedRevocation) -> bytes:
    """Name a revocation."""
    version = revocation_version(revocation)
    return _ENTRY.pack(revocation.revocation.node[:PREFIX_BYTES], REVOCATION, version.epoch, version.sequence)


def revocation_version(revocation: VerifiedRevocation) -> Version:
    """What stands for the version of a revocation, which has none: the hash of its bytes."""
    return Version(*divmod(record_hash(revocation.signed.body), _HALF))


def read(digests: bytes) -> Iterator[tuple[bytes, int, Version]]:
    """The prefix, slot and version of each digest. The decoder has seen to it that they are whole."""
    for prefix, slot, epoch, sequence in _ENTRY.iter_unpack(digests):
        yield prefix, slot, Version(epoch, sequence)


def split(digests: bytes) -> list[bytes]:
    """Each digest by itself, as it was told."""
    return [digest for (digest,) in _WHOLE.iter_unpack(digests)]


def read_one(digest: bytes) -> tuple[bytes, int, Version]:
    """The prefix, slot and version of one digest."""
    prefix, slot, epoch, sequence = _ENTRY.unpack(digest)
    return prefix, slot, Version(epoch, sequence)


def read_handles(handles: bytes) -> Iterator[tuple[bytes, int]]:
    """The prefix and slot of each handle."""
    yield from _HANDLE.iter_unpack(handles)
