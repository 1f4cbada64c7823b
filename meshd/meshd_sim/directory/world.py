"""Nodes that run the directory's machine unchanged, over connections that are dialled on demand."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.effects import Ask, Effect, LookupEnded, RecordPublished, Reply, SignRecord, Wake
from meshd_node.core.directory.events import (
    Answered,
    ContactSeen,
    Event,
    LookUpNodes,
    LookUpRecords,
    QueryFailed,
    RecordSigned,
    RequestArrived,
    StoreArrived,
    Tick,
    VerifiedRecord,
)
from meshd_node.core.directory.machine import Directory
from meshd_node.core.directory.storage import refusal
from meshd_protocol.errors import MalformedMessage
from meshd_protocol.framing import Frame, Message
from meshd_protocol.ids import ID_BYTES, Key, MeshId, NodeId, record_key
from meshd_protocol.limits import FRAME_HEADER_BYTES
from meshd_protocol.messages.directory import (
    Contact,
    Contacts,
    FindNode,
    FindValue,
    SignedRecord,
    Store,
    Stored,
    Values,
)
from meshd_protocol.messages.peer import PEER
from meshd_protocol.records import DirectoryKind, DirectoryRecord, Version, decode_record, encode_record
from meshd_sim.engine import Engine

MESH: Final = MeshId(b"simulated-directory!")
# One way, from a node to its exchange: round trips of 20 to 120 ms, and jitter.
_DISTANCE_S: Final = (0.005, 0.030)
_JITTER: Final = 0.2
# TCP and TLS with certificates on both sides, before a question can leave.
_HANDSHAKE_ROUND_TRIPS: Final = 2.5
_WALL_AT_START: Final = 1_700_000_000.0

# How a hostile node answers a question; None is silence.
Mischief: TypeAlias = Callable[["Host", NodeId, FindNode | FindValue | Store], Message | None]


@dataclass(frozen=True, slots=True)
class _Question:
    """One on its way: from whom, to whom, and what."""

    asker: "Host"
    query: int
    contact: Contact
    message: Message


class Host:
    """One node. Its shell is here: it dials, verifies and signs, with keys that cost nothing."""

    def __init__(self, world: "World", number: int, mischief: Mischief | None) -> None:
        chance = world.engine.stream(f"node {number}")
        self.world = world
        self.number = number
        self.node = NodeId(chance.randbytes(ID_BYTES))
        self.contact = Contact(self.node, [f"sim:{number}"])
        self.secret = chance.randbytes(16)
        self.chance = chance
        self.distance_s = chance.uniform(*_DISTANCE_S)
        self.mischief = mischief
        self.alive = True
        self.ended: dict[int, LookupEnded] = {}
        self.copies: dict[bytes, int] = {}
        self.machine = Directory(self.node, chance, world.config, world.engine.now)
        self._sequence = 0
        self._wake_at: float | None = None

    def feed(self, event: Event) -> None:
        """Enter the machine and do what it asks."""
        for effect in self.machine.handle(event, self.world.engine.now):
            self._perform(effect)

    def sign(self, kind: DirectoryKind, name: bytes, value: bytes, ttl_s: float) -> SignedRecord:
        """A record of this node's with a version above all before."""
        self._sequence += 1
        expires_ms = int((self.world.wall() + ttl_s) * 1_000)
        record = DirectoryRecord(MESH, kind, name, self.node, Version(1, self._sequence), expires_ms, value)
        body = encode_record(record)
        signed = SignedRecord(body, _signature(self.secret, body), [self.node])
        for salt in range(kind.salts):
            key = record_key(kind, salt, name)
            self.world.newest[key] = signed
            self.world.oldest.setdefault(key, signed)
        return signed

    # --- what comes in --------------------------------------------------------------------------------------------

    def asked(self, sender: "Host", stream: int, message: Message) -> Message | None:
        """Answer a question, or do not."""
        assert isinstance(message, FindNode | FindValue | Store), "only questions are asked"
        if self.mischief is not None:
            return self.mischief(self, sender.node, message)
        self.feed(ContactSeen(sender.contact))
        if not isinstance(message, Store):
            return self._answer(RequestArrived(sender.node, stream, message))
        record = self._verified(SignedRecord(message.body, message.signature, [sender.node]))
        if record is None:
            return None
        outcome = self.machine.precheck(record.record, message.body, message.salt, record.operator)
        if outcome is not None:
            return Stored(outcome)
        return self._answer(StoreArrived(sender.node, stream, message.salt, record))

    def answered(self, query: int, sender: NodeId, message: Message) -> None:
        """Check an answer as the shell does."""
        assert isinstance(message, Contacts | Values | Stored), "only answers are answers"
        records: list[VerifiedRecord] = []
        forged = False
        for signed in message.records if isinstance(message, Values) else ():
            verified = self._verified(signed)
            if verified is None:
                forged = True
            elif self.machine.wanted(query, verified.record):
                records.append(verified)
        self.feed(Answered(query, sender, message, records, forged))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _answer(self, event: RequestArrived | StoreArrived) -> Message | None:
        answer: Message | None = None
        for effect in self.machine.handle(event, self.world.engine.now):
            if isinstance(effect, Reply):
                answer = effect.message
            else:
                self._perform(effect)
        return answer

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Ask(query, contact, message):
                self.world.ask(_Question(self, query, contact, message))
            case LookupEnded(search):
                self.ended[search] = effect
            case SignRecord(kind, name, value, ttl_s):
                verified = self._verified(self.sign(kind, name, value, ttl_s))
                assert verified is not None, "it was just signed"
                self.feed(RecordSigned(verified))
            case RecordPublished(_, name, copies):
                self.copies[name] = copies
            case Wake(at):
                self._wake_at = at
                self.world.engine.at(at, self._wake, at)
            case Reply():
                raise AssertionError("answers leave with their questions")

    def _wake(self, at: float) -> None:
        if self.alive and self._wake_at == at:
            self._wake_at = None
            self.feed(Tick())

    def _verified(self, signed: SignedRecord) -> VerifiedRecord | None:
        try:
            record = decode_record(DirectoryRecord, signed.body)
        except MalformedMessage:
            return None
        publisher = self.world.by_node.get(NodeId(record.publisher))
        if publisher is None or signed.signature != _signature(publisher.secret, signed.body):
            return None
        if refusal(record, MESH, self.world.wall()) is not None:
            return None
        ends_at = self.world.engine.now + record.expires_ms / 1_000 - self.world.wall()
        return VerifiedRecord(signed, record, f"operator {publisher.number % 10}", ends_at)


class World:
    """All hosts, and what is on its way between them."""

    def __init__(self, seed: int, config: DirectoryConfig) -> None:
        self.engine = Engine(seed)
        self.config = config
        self.hosts: list[Host] = []
        self.by_node: dict[NodeId, Host] = {}
        self.questions = 0
        self._jitter = self.engine.stream("jitter")
        self._connected: set[tuple[int, int]] = set()
        # By key, for those who forge and those who look at what was found.
        self.newest: dict[Key, SignedRecord] = {}
        self.oldest: dict[Key, SignedRecord] = {}

    def wall(self) -> float:
        """Everybody's clock."""
        return _WALL_AT_START + self.engine.now

    def add(self, mischief: Mischief | None = None) -> Host:
        """A node that nobody knows yet."""
        host = Host(self, len(self.hosts), mischief)
        self.hosts.append(host)
        self.by_node[host.node] = host
        return host

    def kill(self, hosts: list[Host]) -> None:
        """Switch machines off: nobody refuses a dial for them, and nobody answers."""
        for host in hosts:
            host.alive = False
        gone = {host.number for host in hosts}
        self._connected = {pair for pair in self._connected if not gone.intersection(pair)}

    def ask(self, question: _Question) -> None:
        """Dial if there is no connection, then ask."""
        self.questions += 1
        host = self._at(question.contact)
        if host is None or not host.alive:
            return  # nothing comes back, neither an answer nor a refusal
        one_way = self._one_way(question.asker, host)
        pair = _pair(question.asker, host)
        if pair not in self._connected:
            if host.node != question.contact.node:
                self.engine.after(_HANDSHAKE_ROUND_TRIPS * 2 * one_way, self._refused, question)
                return
            self._connected.add(pair)
            one_way += _HANDSHAKE_ROUND_TRIPS * 2 * one_way
        frame = PEER.encode(question.message, question.query)
        self.engine.after(one_way, self._arrived, (question, frame))

    def _arrived(self, what: tuple[_Question, bytes]) -> None:
        question, frame = what
        host = self._at(question.contact)
        if host is None or not host.alive:
            return
        answer = host.asked(question.asker, question.query, _decoded(frame))
        if answer is not None:
            back = PEER.encode(answer, question.query)
            self.engine.after(self._one_way(question.asker, host), self._came_back, (question, host, back))

    def _came_back(self, what: tuple[_Question, Host, bytes]) -> None:
        question, host, frame = what
        if question.asker.alive:
            question.asker.answered(question.query, host.node, _decoded(frame))

    def _refused(self, question: _Question) -> None:
        if question.asker.alive:
            question.asker.feed(QueryFailed(question.query))

    def _at(self, contact: Contact) -> Host | None:
        network, _, number = contact.addresses[0].partition(":")
        return self.hosts[int(number)] if network == "sim" else None

    def _one_way(self, a: Host, b: Host) -> float:
        return (a.distance_s + b.distance_s) * (1 + self._jitter.random() * _JITTER)


def look_up(host: Host, search: int, target: Key) -> None:
    """Have a node find what is nearest to a place."""
    host.feed(LookUpNodes(search, target))


def get(host: Host, search: int, name: bytes, *, thorough: bool) -> None:
    """Have a node find the contact record of another."""
    host.feed(LookUpRecords(search, DirectoryKind.CONTACT, name, thorough))


def nearest(hosts: list[Host], target: bytes, count: int) -> list[Host]:
    """What only the world knows: the nodes that are nearest to a place."""
    place = int.from_bytes(target, "big")
    return sorted(hosts, key=lambda host: int.from_bytes(host.node, "big") ^ place)[:count]


def _pair(a: Host, b: Host) -> tuple[int, int]:
    return (a.number, b.number) if a.number < b.number else (b.number, a.number)


def _signature(secret: bytes, body: bytes) -> bytes:
    return hashlib.sha512(secret + body).digest()


def _decoded(frame: bytes) -> Message:
    return PEER.decode(Frame(frame[4], int.from_bytes(frame[5:9], "big"), frame[FRAME_HEADER_BYTES:]))
