"""The Merkle tree of a receipt: its leaves are results, its root is signed. Spec: 06-records.md, section 4.

Leaves and inner nodes are hashed with different prefixes, so that neither passes for the other (RFC 6962, section 2.1).
An odd node at the end of a level moves up as it is.
"""

import struct
from collections.abc import Sequence
from typing import Final

from blake3 import blake3

from meshd_protocol.ids import Digest

_LEAF: Final = struct.Struct(">20sIHB32sQ")
_LEAF_PREFIX: Final = b"meshd/leaf/1\0"
_NODE_PREFIX: Final = b"\1"


def leaf(job: bytes, index: int, attempt: int, status: int, result: bytes, cpu_us: int) -> Digest:
    """Digest of one result: which unit and attempt, how it ended, the result's digest, the CPU time it took in µs."""
    return Digest(blake3(_LEAF_PREFIX + _LEAF.pack(job, index, attempt, status, result, cpu_us)).digest())


def root(leaves: Sequence[bytes]) -> Digest:
    """The root over at least one leaf."""
    assert leaves, "a receipt covers at least one result"
    level = list(leaves)
    while len(level) > 1:
        level = _parents(level)
    return Digest(level[0])


def path(leaves: Sequence[bytes], position: int) -> list[tuple[bool, Digest]]:
    """What turns leaf `position` into the root: (sibling stands on the left, sibling) from the bottom up."""
    steps: list[tuple[bool, Digest]] = []
    level = list(leaves)
    while len(level) > 1:
        sibling = position ^ 1
        if sibling < len(level):
            steps.append((sibling < position, Digest(level[sibling])))
        level = _parents(level)
        position //= 2
    return steps


def root_from_path(leaf_digest: bytes, steps: Sequence[tuple[bool, bytes]]) -> Digest:
    """The root that a leaf and its path lead to."""
    digest = leaf_digest
    for left, sibling in steps:
        digest = _parent(sibling, digest) if left else _parent(digest, sibling)
    return Digest(digest)


def _parents(level: list[bytes]) -> list[bytes]:
    parents = [_parent(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        parents.append(level[-1])
    return parents


def _parent(left: bytes, right: bytes) -> bytes:
    return blake3(_NODE_PREFIX + left + right).digest()
