"""What two nodes lack of each other, found from all that one of them holds in some buckets.

Members that are gone are never handed to somebody who does not know them: else an old tombstone would go from node to
node for ever. Who holds them for living ones learns better from a newer version, or from the member itself.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field

from meshd_node.core.membership import digests
from meshd_node.core.membership.digests import PREFIX_BYTES
from meshd_node.core.membership.effects import MemberState
from meshd_node.core.membership.entry import NEVER, Entry
from meshd_node.core.membership.events import VerifiedRevocation
from meshd_node.core.membership.roster import Roster
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import STATE_DIGESTS_MAX
from meshd_protocol.messages.membership import (
    DIGEST_ENTRY_BYTES,
    GONE,
    REVOCATION,
    BucketDigests,
    SignedRevocation,
    SignedState,
)
from meshd_protocol.records import Slot, Version

_SLOTS: Final = frozenset(Slot)


class Comparison(Struct, gc=False):
    """What came out of it.

    `states`, those of one member together, and `revocations`: what the peer lacks. `wants`: handles of what this node
    lacks. `disputed`: of whom one of the two says that they are gone, and the other that they live, with the newest
    version that either knows: they themselves have to say something newer. `looked_at`: how many members and digests.
    """

    states: list[list[SignedState]] = field(default_factory=list)
    revocations: list[SignedRevocation] = field(default_factory=list)
    wants: list[bytes] = field(default_factory=list)
    disputed: list[tuple[NodeId, Version]] = field(default_factory=list)
    looked_at: int = 0


def tell(roster: Roster, of: int, buckets: Iterable[int], now: float) -> BucketDigests | None:
    """All that this node holds in these buckets, or in the first of them that fit into one message."""
    told: list[bytes] = []
    covered: list[int] = []
    for bucket in buckets:
        held = list(_held(roster, of, bucket, now))
        if len(told) + len(held) > STATE_DIGESTS_MAX:
            break
        told += held
        covered.append(bucket)
    return BucketDigests(of, bytes(covered), b"".join(told)) if covered else None


def compare(roster: Roster, theirs: BucketDigests) -> Comparison:
    """Read a peer's digests beside what this node holds in the same buckets."""
    told: dict[tuple[bytes, int], tuple[Version, bool]] = {}
    revoked: dict[bytes, set[Version]] = {}
    for prefix, slot, version in digests.read(theirs.digests):
        if slot == REVOCATION:
            revoked.setdefault(prefix, set()).add(version)
        else:
            told[prefix, slot & ~GONE] = (version, bool(slot & GONE))
    found = Comparison(looked_at=len(theirs.digests) // DIGEST_ENTRY_BYTES)
    for bucket in theirs.buckets:
        for entry in roster.shelves.bucket(theirs.of, bucket):
            found.looked_at += 1
            _compare_entry(entry, told, found)
        for held in roster.revocations.bucket(theirs.of, bucket):
            found.looked_at += 1
            _compare_revocation(held, revoked, found)
    for (prefix, slot), (_, gone) in told.items():
        if not gone and slot in _SLOTS:
            found.wants.append(prefix + bytes([slot]))
    found.wants += [prefix + bytes([REVOCATION]) for prefix, unknown in revoked.items() if unknown]
    return found


def _held(roster: Roster, of: int, bucket: int, now: float) -> Iterable[bytes]:
    for entry in roster.shelves.bucket(of, bucket):
        if roster.told(entry, now):
            gone = not entry.living
            for held in entry.held():
                yield digests.of_state(held.state, gone=gone)
    for revocation in roster.revocations.bucket(of, bucket):
        yield digests.of_revocation(revocation)


def _compare_entry(entry: Entry, told: dict[tuple[bytes, int], tuple[Version, bool]], found: Comparison) -> None:
    """Take what the peer said of one member out of `told`, and find what follows."""
    prefix, living = entry.node[:PREFIX_BYTES], entry.living
    theirs = {slot: told.pop((prefix, slot)) for slot in Slot if (prefix, slot) in told}
    if entry.mark is MemberState.REVOKED or not (living or theirs):
        return
    lacked: list[SignedState] = []
    for slot in Slot:
        version = theirs[slot][0] if slot in theirs else NEVER
        held = entry.slot(slot)
        mine = NEVER if held is None else held.state.version
        if mine < version:
            found.wants.append(prefix + bytes([slot]))
        elif held is not None and version < mine:
            lacked.append(held.signed)
    if lacked:
        found.states.append(lacked)
    if theirs:
        _compare_lives(entry, max(theirs.values()), found)


def _compare_lives(entry: Entry, newest: tuple[Version, bool], found: Comparison) -> None:
    (version, gone), mine = newest, entry.version
    if entry.living:
        disputed = gone and version == mine  # else the newer one of the two settles it, or says that it has left
    else:
        disputed = not gone and version <= mine and entry.state is MemberState.DEAD
    if disputed:
        found.disputed.append((entry.node, max(mine, entry.marked)))


def _compare_revocation(held: VerifiedRevocation, revoked: dict[bytes, set[Version]], found: Comparison) -> None:
    prefix = held.revocation.node[:PREFIX_BYTES]
    version = digests.revocation_version(held)
    unknown = revoked.get(prefix)
    if unknown is None or version not in unknown:
        found.revocations.append(held.signed)
    else:
        unknown.discard(version)
