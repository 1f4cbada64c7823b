"""The Merkle tree of a receipt: its leaves are results, its root is signed. Spec: 06-records.md, section 4.

Sixteen children to a node: a batch of 256 results costs 17 hashes of some hundred bytes, 0.3 to 0.45 µs a unit; a
binary tree over hashed leaves costs 511 of few bytes, 2.6 µs (both in one run). A path is longer, and seldom needed.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from blake3 import blake3

from meshd_protocol.errors import MalformedMessage
from meshd_protocol.ids import DIGEST_BYTES, Digest

FANOUT: Final = 16
# Nodes over leaves and nodes over nodes differ in their prefix, so that neither passes for the other (RFC 6962, 2.1).
_LEAVES: Final = b"meshd/leaves/1\0"
_NODES: Final = b"meshd/nodes/1\0"
_LEAF: Final = struct.Struct(">IHBQ32s")
LEAF_BYTES: Final = _LEAF.size


class Step(NamedTuple):
    """One level of a path: what stands before and behind the child, in its parent."""

    before: bytes
    behind: bytes


def leaf(index: int, attempt: int, status: int, took_us: int, result: bytes) -> bytes:
    """One result: which unit and attempt, how it ended, how long it ran in µs, the result's digest."""
    return _LEAF.pack(index, attempt, status, took_us, result)


def root(leaves: Sequence[bytes]) -> Digest:
    """The root over at least one leaf."""
    assert leaves, "a receipt covers at least one result"
    level = _parents(_LEAVES, leaves)
    while len(level) > 1:
        level = _parents(_NODES, level)
    return Digest(level[0])


def path(leaves: Sequence[bytes], position: int) -> list[Step]:
    """What turns leaf `position` into the root, from the bottom up."""
    steps: list[Step] = []
    prefix, level = _LEAVES, leaves
    while len(level) > 1 or prefix is _LEAVES:
        first = position - position % FANOUT
        siblings = level[first : first + FANOUT]
        at = position - first
        steps.append(Step(b"".join(siblings[:at]), b"".join(siblings[at + 1 :])))
        prefix, level, position = _NODES, _parents(prefix, level), position // FANOUT
    return steps


def root_from_path(leaf_bytes: bytes, steps: Sequence[Step]) -> Digest:
    """The root that a leaf and its path lead to; raise `MalformedMessage` if the path is not made of whole children."""
    prefix, child, size = _LEAVES, leaf_bytes, LEAF_BYTES
    for before, behind in steps:
        # Otherwise a "leaf" might straddle two real ones.
        if len(child) != size or len(before) % size or len(behind) % size:
            raise MalformedMessage("a step of the path is not made of whole children")
        if len(before) + size + len(behind) > FANOUT * size:
            raise MalformedMessage(f"a step of the path has more than {FANOUT} children")
        child = blake3(prefix + before + child + behind).digest()
        prefix, size = _NODES, DIGEST_BYTES
    return Digest(child)


def _parents(prefix: bytes, level: Sequence[bytes]) -> list[bytes]:
    return [blake3(prefix + b"".join(level[first : first + FANOUT])).digest() for first in range(0, len(level), FANOUT)]
