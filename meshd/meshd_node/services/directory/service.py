"""The directory service: lets in what is proved, signs what this node says, and asks whom the machine wants to ask."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias, assert_never

import trio

from meshd_node.core.directory.effects import Ask, Effect, LookupEnded, RecordPublished, Reply, SignRecord, Wake
from meshd_node.core.directory.events import (
    Answered,
    ContactLost,
    ContactSeen,
    Event,
    LookUpRecords,
    PublishRecord,
    QueryFailed,
    RecordSigned,
    RequestArrived,
    StoreArrived,
    Tick,
    VerifiedRecord,
    WithdrawRecord,
)
from meshd_node.core.directory.machine import Directory
from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.log import log
from meshd_node.net.link import Link
from meshd_node.seams import Seams
from meshd_node.services.budget import PeerBudgets
from meshd_node.services.directory.checks import FORGED, OverBudget, RecordChecks
from meshd_node.services.directory.lost import Lost
from meshd_node.services.directory.own_records import OwnRecords, capability_value, contact_value
from meshd_node.services.directory.questions import Questions, Transport
from meshd_node.services.lookup.directory import Search
from meshd_node.services.one_at_a_time import OneAtATime
from meshd_node.services.timer import Timer
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import MalformedMessage
from meshd_protocol.ids import Digest, JobId, NodeId, to_text
from meshd_protocol.limits import CONTACT_ADDRESSES_MAX
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
from meshd_protocol.records import (
    ContactValue,
    Core,
    DirectoryKind,
    DirectoryRecord,
    JobValue,
    Offer,
    ProviderValue,
    decode_record,
    encode_record,
)

# A node of a mesh of thousands asks a given other one a few times an hour, but for one that publishes many jobs.
QUESTIONS_PER_S: Final = 32
QUESTIONS_BURST: Final = 256
# A read may bring 16 records that were never seen, with as many chains.
CHECKS_PER_S: Final = 64
CHECKS_BURST: Final = 512
_GONE: Final = (MemberState.DEAD, MemberState.LEFT, MemberState.REVOKED)

Incoming: TypeAlias = FindNode | FindValue | Contacts | Values | Store | Stored
Done: TypeAlias = Callable[[Search], None]


class Members(Protocol):
    """Where the members are known."""

    def member(self, node: NodeId) -> Member | None:
        """What is known of a node."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySetup:
    """Who this node is. `boot_epoch` is larger than at any earlier start, so that what it says now wins."""

    certified: Certified
    root_key: bytes
    boot_epoch: int


class DirectoryService:
    """One node's part of the directory. All but `run` is synchronous and is called by the transport's handler."""

    def __init__(
        self, machine: Directory, setup: DirectorySetup, members: Members, transport: Transport, seams: Seams
    ) -> None:
        self._machine = machine
        self._members = members
        self._transport = transport
        self._seams = seams
        self._node = setup.certified.node
        self._own = OwnRecords(setup.certified, setup.boot_epoch, seams)
        self._checks = RecordChecks(setup.certified.mesh, setup.root_key, seams)
        self._questions = Questions(transport)
        self._lost = Lost()
        self._question_budgets = PeerBudgets(QUESTIONS_PER_S, QUESTIONS_BURST)
        self._check_budgets = PeerBudgets(CHECKS_PER_S, CHECKS_BURST)
        self._searches: dict[int, Done] = {}
        self._numbers = itertools.count()
        self._handle = OneAtATime(self._apply)
        self._timer = Timer(lambda: self._handle(Tick()), transport.flush)

    # --- what others ask ------------------------------------------------------------------------------------------

    def find_contact(self, node: NodeId, done: Done) -> None:
        """Look for where a node listens, on every path: it is somebody who may be hidden from us."""
        self._look_up(DirectoryKind.CONTACT, node, done, thorough=True)

    def find_records(self, kind: DirectoryKind, name: bytes, done: Done) -> None:
        """Look for all records of a kind under a name."""
        self._look_up(kind, name, done, thorough=True)

    def introduce(self, core: Core, certified: Certified) -> None:
        """Publish where this node listens; with this certificate all records go from now on."""
        self._own.certified = certified
        if core.addresses:
            self._handle(PublishRecord(DirectoryKind.CONTACT, self._node, contact_value(core.addresses)))
        else:
            self._handle(WithdrawRecord(DirectoryKind.CONTACT, self._node))

    def announce(self, offer: Offer) -> None:
        """Publish what this node lends."""
        self._handle(PublishRecord(DirectoryKind.CAPABILITY, self._node, capability_value(offer)))

    def provide(self, blob: Digest, size: int) -> None:
        """Publish that this node holds a blob."""
        self._handle(PublishRecord(DirectoryKind.PROVIDER, blob, encode_record(ProviderValue(size))))

    def withhold(self, blob: Digest) -> None:
        """It does not hold it any more."""
        self._handle(WithdrawRecord(DirectoryKind.PROVIDER, blob))

    def own(self, job: JobId, epoch: int, guardians: Iterable[NodeId] = ()) -> None:
        """Publish that this node owns a job."""
        value = encode_record(JobValue(epoch, list(guardians)))
        self._handle(PublishRecord(DirectoryKind.JOB, job, value))

    def disown(self, job: JobId) -> None:
        """It has ended, or another node owns it."""
        self._handle(WithdrawRecord(DirectoryKind.JOB, job))

    # --- what membership reports ----------------------------------------------------------------------------------

    def member_changed(self, member: Member) -> None:
        """A member is new or differs from before."""
        if member.node == self._node:
            return
        if member.state in _GONE:
            self._handle(ContactLost(member.node, member.state is MemberState.REVOKED))
        elif member.core.addresses:
            self._handle(ContactSeen(_contact_of(member)))

    # --- what the transport reports -------------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """A session began."""
        self._lost.seen(link.peer.node)
        self._questions.link_up(link)
        member = self._members.member(link.peer.node)
        if member is not None:
            # It may have been given up here while membership never lost it.
            self.member_changed(member)

    def link_down(self, link: Link) -> None:
        """A session ended."""
        self._fail(link.peer.node)

    def dial_failed(self, node: NodeId) -> None:
        """A dial ended without a session, after all addresses were tried: a member may have moved."""
        self._fail(node)
        if self._members.member(node) is not None and self._lost.may_look(node, self._seams.monotonic()):
            self._look_up(DirectoryKind.CONTACT, node, partial(self._found_lost, node), thorough=False)

    def message(self, link: Link, message: Incoming, stream: int) -> None:
        """A peer's message. Raise its `RemoteProtocolError`: then the link has to end."""
        node = link.peer.node
        match message:
            case FindNode() | FindValue():
                if self._spend(node, 1):
                    self._handle(RequestArrived(node, stream, message))
            case Store():
                if self._spend(node, 1):
                    self._store(link, message, stream)
            case Contacts() | Stored():
                self._questions.settled(node, stream)
                self._handle(Answered(stream, node, message, []))
            case Values():
                self._questions.settled(node, stream)
                self._values(node, message, stream)
            case _:
                assert_never(message)

    # --- what is signed -------------------------------------------------------------------------------------------

    def _store(self, link: Link, message: Store, stream: int) -> None:
        record = decode_record(DirectoryRecord, message.body)
        sender = link.peer
        outcome = self._checks.refusal(record)
        if outcome is None and record.publisher != sender.node:
            outcome = StoreOutcome.NOT_YOURS
        if outcome is None:
            outcome = self._machine.precheck(record, message.body, message.salt, sender.operator)
        if outcome is not None:
            link.send(Stored(outcome), stream)
            return
        signed = SignedRecord(message.body, message.signature, list(sender.chain))
        verified = self._checks.of_sender(signed, record, sender)
        self._handle(StoreArrived(sender.node, stream, message.salt, verified))

    def _values(self, node: NodeId, message: Values, stream: int) -> None:
        wanted, spend = partial(self._machine.wanted, stream), partial(self._spend_checks, node)
        records: list[VerifiedRecord] = []
        forged = False
        try:
            found = (self._checks.found(signed, wanted, spend) for signed in message.records)
            records += [record for record in found if record is not None and self._may_publish(record)]
        except FORGED as error:
            forged = True
            log.warning("directory_record_forged", peer=to_text(node), reason=str(error))
        except OverBudget:
            log.debug("directory_records_unchecked", peer=to_text(node))
        self._handle(Answered(stream, node, message, records, forged))

    def _may_publish(self, record: VerifiedRecord) -> bool:
        member = self._members.member(NodeId(record.record.publisher))
        return member is None or member.state is not MemberState.REVOKED

    def _spend(self, node: NodeId, cost: int) -> bool:
        return self._question_budgets.spend(node, cost, self._seams.monotonic())

    def _spend_checks(self, node: NodeId, cost: int) -> bool:
        return self._check_budgets.spend(node, cost, self._seams.monotonic())

    # --- searches -------------------------------------------------------------------------------------------------

    def _look_up(self, kind: DirectoryKind, name: bytes, done: Done, *, thorough: bool) -> None:
        number = next(self._numbers)
        self._searches[number] = done
        self._handle(LookUpRecords(number, kind, name, thorough))
        self._transport.flush()

    def _found_lost(self, node: NodeId, search: Search) -> None:
        """Dial a member where its newest record says that it is."""
        self._lost.found(node)
        member = self._members.member(node)
        for record in search.records:
            try:
                addresses = decode_record(ContactValue, record.value).addresses
            except MalformedMessage:
                continue
            if member is not None and set(addresses) - set(member.core.addresses):
                log.info("member_moved", node=to_text(node), addresses=addresses)
                self._transport.dial(node, addresses)

    def _fail(self, node: NodeId) -> None:
        for query in self._questions.failed(node):
            self._handle(QueryFailed(query))

    # --- time and effects -----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        await self._timer.run(task_status=task_status)

    def _apply(self, event: Event) -> None:
        for effect in self._machine.handle(event, self._seams.monotonic()):
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Ask(_, contact, _):
                self._questions.ask(effect, self._addresses(contact))
            case Reply(node, stream, message):
                link = self._transport.link(node)
                if link is not None:
                    link.send(message, stream)
            case LookupEnded(number):
                found = [record.record for record in effect.records]
                done = self._searches.pop(number)
                done(Search(records=found, answered_by=effect.sources, hops=effect.hops, asked=effect.questions))
            case SignRecord():
                signed, record, me = self._own.sign(effect)
                self._handle(RecordSigned(self._checks.verified(signed, record, me)))
            case RecordPublished(kind, name, copies):
                log.debug("record_published", kind=kind.name, name=to_text(name), copies=copies)
            case Wake(at):
                self._timer.set(at)
            case _:
                assert_never(effect)

    def _addresses(self, contact: Contact) -> list[str]:
        """Where to dial: what the node itself told the mesh comes before what others say."""
        member = self._members.member(NodeId(contact.node))
        told = [] if member is None else member.core.addresses
        return list(dict.fromkeys((*told, *contact.addresses)))


def _contact_of(member: Member) -> Contact:
    return Contact(member.node, member.core.addresses[:CONTACT_ADDRESSES_MAX])
