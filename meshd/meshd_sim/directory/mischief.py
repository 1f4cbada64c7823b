"""How hostile nodes answer. All of them say that they stored what they dropped."""

from collections.abc import Callable
from typing import Final, TypeAlias

from msgspec.structs import replace

from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import CONTACTS_PER_MESSAGE_MAX
from meshd_protocol.messages.directory import (
    Contact,
    Contacts,
    FindNode,
    FindValue,
    SignedRecord,
    Store,
    Stored,
    StoreOutcome,
    Values,
)
from meshd_protocol.records import DirectoryRecord, decode_record, encode_record
from meshd_sim.directory.world import Host, Mischief, nearest

Question: TypeAlias = FindNode | FindValue | Store
# Above any version that an honest node has come to.
_FAR_AHEAD: Final = 1 << 30


def silent(host: Host, sender: NodeId, message: Question) -> Message | None:
    """Never answers."""
    del host, sender, message
    return None


def inventing(host: Host, sender: NodeId, message: Question) -> Message | None:
    """Names nodes right beside the place that is looked for. They do not exist."""
    del sender
    return _answered(message, lambda place: [_invented(host, place) for _ in range(CONTACTS_PER_MESSAGE_MAX)])


def colluding(host: Host, sender: NodeId, message: Question) -> Message | None:
    """Names only others of its kind."""
    friends = [other for other in host.world.hosts if other.mischief is colluding and other.node != sender]
    return _answered(
        message, lambda place: [friend.contact for friend in nearest(friends, place, CONTACTS_PER_MESSAGE_MAX)]
    )


def forging(host: Host, sender: NodeId, message: Question) -> Message | None:
    """Hands out what nobody signed: another's record with a value and a version of its own."""
    contacts = _honest_contacts(host, sender, message)
    genuine = host.world.newest.get(message.key) if isinstance(message, FindValue) else None
    if genuine is None:
        return _answered(message, lambda _: contacts)
    record = decode_record(DirectoryRecord, genuine.body)
    forged = replace(record, value=b"forged", version=replace(record.version, epoch=_FAR_AHEAD))
    return Values([SignedRecord(encode_record(forged), genuine.signature, genuine.certificates)], contacts)


def replaying(host: Host, sender: NodeId, message: Question) -> Message | None:
    """Hands out the oldest version that its publisher ever signed."""
    contacts = _honest_contacts(host, sender, message)
    genuine = host.world.oldest.get(message.key) if isinstance(message, FindValue) else None
    return _answered(message, lambda _: contacts) if genuine is None else Values([genuine], contacts)


ALL: Final[tuple[Mischief, ...]] = (silent, forging, replaying, inventing, colluding)


def _answered(message: Question, contacts: Callable[[bytes], list[Contact]]) -> Message:
    match message:
        case FindNode(place):
            return Contacts(contacts(place))
        case FindValue(place):
            return Values([], contacts(place))
        case Store():
            return Stored(StoreOutcome.KEPT)


def _honest_contacts(host: Host, sender: NodeId, message: Question) -> list[Contact]:
    """What its table has: the lie is in the records."""
    match message:
        case FindNode(place) | FindValue(place):
            return host.machine.nearest(place, sender)
        case Store():
            return []


def _invented(host: Host, place: bytes) -> Contact:
    """So near to the place that no real node of any mesh is nearer, at an address where nobody answers."""
    return Contact(NodeId(place[:-8] + host.chance.randbytes(8)), ["nowhere:0"])
