"""The machine by itself: what it answers, whom it asks, when it wakes, and what no event can make it do."""

import math
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.effects import Ask, Effect, LookupEnded, RecordPublished, Reply, SignRecord, Wake
from meshd_node.core.directory.events import (
    Answered,
    ContactLost,
    ContactSeen,
    Event,
    GiveUp,
    LookUpNodes,
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
from meshd_protocol.ids import ID_BYTES, Key, MeshId, NodeId, record_key
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
from meshd_protocol.records import DirectoryKind, DirectoryRecord, Version, encode_record

ME = NodeId(bytes(ID_BYTES))
MESH = MeshId(b"m" * ID_BYTES)
PROVIDER = DirectoryKind.PROVIDER
CONFIG = DirectoryConfig(settle_s=2.0)


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(ID_BYTES, "big"))


def contact(number: int) -> Contact:
    return Contact(node(number), [f"host:{number}"])


def verified(
    publisher: NodeId, name: bytes, value: bytes = b"", version: int = 1, kind: DirectoryKind = PROVIDER
) -> VerifiedRecord:
    record = DirectoryRecord(MESH, kind, name, publisher, Version(1, version), 1, value)
    return VerifiedRecord(SignedRecord(encode_record(record), bytes(64), [b"c"]), record, "lab", 1_000.0)


class Shell:
    """Feeds one machine, and keeps what it asked for."""

    def __init__(self, config: DirectoryConfig = CONFIG) -> None:
        self.machine = Directory(ME, random.Random(1), config)
        self.now = 0.0
        self.wake_at = math.inf
        self.asks: dict[int, Ask] = {}
        self.ended: dict[int, LookupEnded] = {}
        self.replies: list[Reply] = []
        self.published: list[RecordPublished] = []
        self._version = 0

    def feed(self, *events: Event) -> list[Effect]:
        effects = [effect for event in events for effect in self.machine.handle(event, self.now)]
        for effect in effects:
            match effect:
                case Ask(query):
                    assert query not in self.asks
                    self.asks[query] = effect
                case LookupEnded(search):
                    assert search not in self.ended, "a search ends once"
                    self.ended[search] = effect
                case Reply():
                    self.replies.append(effect)
                case RecordPublished():
                    self.published.append(effect)
                case Wake(at):
                    self.wake_at = at
        for effect in effects:
            if isinstance(effect, SignRecord):
                self._version += 1
                self.feed(RecordSigned(verified(ME, effect.name, effect.value, self._version, effect.kind)))
        return effects

    def run(self, seconds: float) -> None:
        """Let time pass; nobody answers."""
        end = self.now + seconds
        steps = 0
        while self.wake_at <= end:
            steps += 1
            assert steps < 10_000, "it wakes again and again and does nothing"
            self.now, self.wake_at = max(self.now, self.wake_at), math.inf
            self.feed(Tick())
        self.now = end

    def live(self, seconds: float) -> list[Ask]:
        """Let time pass; everybody answers soon."""
        answered = []
        end = self.now + seconds
        while self.now < end:
            self.run(min(max(0.1, self.wake_at - self.now), end - self.now))
            answered += self.answer_all()
        return answered

    def know(self, *numbers: int) -> None:
        self.feed(*(ContactSeen(contact(number)) for number in numbers))

    def open(self) -> list[Ask]:
        """Take what was asked."""
        asks = list(self.asks.values())
        self.asks.clear()
        return asks

    def answer_all(self, records: tuple[VerifiedRecord, ...] = ()) -> list[Ask]:
        """Answer until nothing more is asked; nobody knows anybody."""
        answered = []
        while asks := self.open():
            for ask in asks:
                answered.append(ask)
                sender = NodeId(ask.contact.node)
                match ask.message:
                    case FindNode():
                        self.feed(Answered(ask.query, sender, Contacts([]), []))
                    case FindValue(key):
                        fit = [each for each in records if self.machine.wanted(ask.query, each.record)]
                        assert all(record_key(each.record.kind, 0, each.record.name) == key for each in fit)
                        self.feed(Answered(ask.query, sender, Values([], []), fit))
                    case Store():
                        self.feed(Answered(ask.query, sender, Stored(StoreOutcome.KEPT), []))
        return answered


# --- questions of others ------------------------------------------------------------------------------------------


def test_asker_gets_the_nearest_contacts_and_not_itself() -> None:
    shell = Shell()
    shell.know(*range(1, 40))
    shell.feed(RequestArrived(node(3), 7, FindNode(Key(node(2)))))

    reply = shell.replies[0]
    assert (reply.node, reply.stream) == (node(3), 7)
    assert isinstance(reply.message, Contacts)
    expected = sorted((number for number in range(1, 40) if number != 3), key=lambda number: number ^ 2)
    assert [each.node for each in reply.message.contacts] == [node(number) for number in expected[:20]]


def test_key_with_more_publishers_than_fit_is_answered_with_some_of_them_each_time() -> None:
    shell = Shell()
    shell.feed(*(StoreArrived(node(number), 1, 0, verified(node(number), b"blob")) for number in range(1, 31)))
    for _ in range(12):
        shell.feed(RequestArrived(node(99), 1, FindValue(record_key(PROVIDER, 0, b"blob"))))

    answers = [reply.message.records for reply in shell.replies if isinstance(reply.message, Values)]
    assert {len(records) for records in answers} == {16}
    assert len({signed.body for records in answers for signed in records}) == 30


def test_store_is_answered_with_its_outcome_and_expires() -> None:
    shell = Shell()
    shell.feed(StoreArrived(node(1), 5, 0, verified(node(1), b"blob", version=2)))
    shell.feed(StoreArrived(node(1), 6, 0, verified(node(1), b"blob", version=1)))

    assert [(reply.stream, reply.message) for reply in shell.replies] == [
        (5, Stored(StoreOutcome.KEPT)),
        (6, Stored(StoreOutcome.OLDER)),
    ]
    assert shell.machine.records() == 1
    shell.run(1_001.0)
    assert shell.machine.records() == 0


# --- searches -----------------------------------------------------------------------------------------------------


def test_search_without_contacts_ends_at_once() -> None:
    shell = Shell()
    shell.feed(LookUpNodes(1, Key(node(5))), LookUpRecords(2, PROVIDER, b"blob", thorough=True))

    assert shell.ended[1].contacts == []
    assert shell.ended[2].records == []


@pytest.mark.parametrize(("thorough", "asked"), [(False, 3), (True, 10)])
def test_hurried_read_ends_with_three_voices_and_a_thorough_one_hears_all(thorough: bool, asked: int) -> None:
    """One node alone may hand out what is outdated."""
    old, new = verified(node(50), b"blob", b"old", 1), verified(node(50), b"blob", b"new", 2)
    shell = Shell()
    shell.know(*range(1, 11))
    shell.feed(LookUpRecords(1, PROVIDER, b"blob", thorough))
    answers = 0
    while 1 not in shell.ended:
        ask = shell.asks.pop(min(shell.asks))
        answers += 1
        shell.feed(Answered(ask.query, NodeId(ask.contact.node), Values([], []), [new if answers == 3 else old]))

    assert answers == asked
    assert [each.record.value for each in shell.ended[1].records] == [b"new"]
    assert len(shell.ended[1].sources) == asked


def test_second_salt_is_tried_only_if_the_first_gave_nothing() -> None:
    shell = Shell()
    shell.know(1, 2, 3)
    job = b"j" * 20
    shell.feed(LookUpRecords(1, DirectoryKind.JOB, job, thorough=False))
    asked = [ask.message for ask in shell.answer_all()]

    keys = [message.key for message in asked if isinstance(message, FindValue)]
    assert list(dict.fromkeys(keys)) == [record_key(DirectoryKind.JOB, salt, job) for salt in range(3)]
    assert shell.ended[1].records == []


def test_what_is_held_here_is_found_without_a_question() -> None:
    shell = Shell()
    shell.feed(StoreArrived(node(1), 5, 0, verified(node(1), b"blob", b"here")))
    shell.feed(LookUpRecords(1, PROVIDER, b"blob", thorough=False))

    assert [each.record.value for each in shell.ended[1].records] == [b"here"]
    assert shell.ended[1].sources == [ME]
    assert shell.ended[1].hops == 0


def test_answer_of_another_node_or_of_another_sort_is_none() -> None:
    shell = Shell()
    shell.know(1)
    shell.feed(LookUpNodes(1, Key(node(5))))
    ask = shell.open()[0]
    shell.feed(Answered(ask.query, node(2), Contacts([contact(9)]), []))
    assert 1 not in shell.ended
    shell.feed(Answered(ask.query, node(1), Values([], [contact(9)]), []))

    assert shell.ended[1].contacts == []


def test_forger_is_dropped_and_not_listened_to_for_a_while() -> None:
    shell = Shell()
    shell.know(1, 2)
    shell.feed(LookUpRecords(1, PROVIDER, b"blob", thorough=True))
    ask = next(ask for ask in shell.open() if ask.contact.node == node(1))
    shell.feed(Answered(ask.query, node(1), Values([], [contact(9)]), [verified(node(1), b"blob")], forged=True))

    assert shell.machine.contact(node(1)) is None
    shell.know(1)
    assert shell.machine.contact(node(1)) is None
    assert not [ask for ask in shell.open() if ask.contact.node == node(9)]
    shell.run(700.0)
    shell.know(1)
    assert shell.machine.contact(node(1)) == contact(1)


def test_contact_goes_after_two_silences_in_a_row_and_an_answer_clears_the_first() -> None:
    shell = Shell(DirectoryConfig(settle_s=1e6))
    shell.know(1)
    for search, answers in ((1, False), (2, True), (3, False), (4, False)):
        shell.feed(LookUpNodes(search, Key(node(5))))
        asks = shell.open()
        if answers:
            shell.feed(Answered(asks[0].query, node(1), Contacts([]), []))
        shell.run(4.0)
        shell.open()
        assert (shell.machine.contact(node(1)) is None) == (search == 4)


def test_hint_enters_the_table_only_by_its_own_answer() -> None:
    shell = Shell()
    shell.know(1)
    shell.feed(LookUpNodes(1, Key(node(5))))
    ask = shell.open()[0]
    shell.feed(Answered(ask.query, node(1), Contacts([contact(4), contact(6)]), []))
    for ask in shell.open():
        if ask.contact.node == node(4):
            shell.feed(Answered(ask.query, node(4), Contacts([]), []))
        else:
            shell.feed(QueryFailed(ask.query))

    assert shell.machine.contact(node(4)) == contact(4)
    assert shell.machine.contact(node(6)) is None


def test_given_up_search_never_ends_and_asks_nobody_more() -> None:
    shell = Shell()
    shell.know(*range(1, 30))
    shell.feed(LookUpNodes(1, Key(node(5))), GiveUp(1))
    shell.answer_all()

    assert 1 not in shell.ended


def test_searches_beyond_the_bound_wait_and_beyond_that_end_at_once() -> None:
    shell = Shell(DirectoryConfig(searches_max=2, waiting_max=3))
    shell.know(1)
    for search in range(10):
        shell.feed(LookUpNodes(search, Key(node(100 + search))))

    assert sorted(shell.ended) == [5, 6, 7, 8, 9]
    shell.answer_all()
    assert sorted(shell.ended) == list(range(10))


# --- publishing ---------------------------------------------------------------------------------------------------


def test_record_is_published_once_the_node_has_looked_around() -> None:
    shell = Shell()
    shell.feed(PublishRecord(PROVIDER, b"blob", b"value"))
    assert shell.machine.records() == 0
    shell.know(1, 2, 3)
    shell.run(2.0)
    asked = shell.answer_all()

    stores = [ask for ask in asked if isinstance(ask.message, Store)]
    assert {ask.contact.node for ask in stores} == {node(1), node(2), node(3)}
    assert shell.published == [RecordPublished(PROVIDER, b"blob", 3)]
    assert shell.machine.records() == 1


def test_record_that_nobody_took_is_tried_again_soon_and_one_that_was_taken_at_a_third_of_its_life() -> None:
    shell = Shell(DirectoryConfig(settle_s=2.0, strikes=100))
    shell.feed(PublishRecord(PROVIDER, b"blob", b"value"))
    shell.know(1)
    shell.run(60.0)
    assert [each.copies for each in shell.published] == [0, 0]
    shell.open()
    while len(shell.published) < 3:
        shell.run(1.0)
        shell.answer_all()
    assert shell.published[-1].copies == 1
    again_at = shell.now
    while len(shell.published) < 4:
        shell.run(60.0)
        shell.answer_all()

    assert 0.7 * 7_200 <= shell.now - again_at <= 7_260


def test_changed_value_is_published_at_once_though_the_old_one_is_on_its_way() -> None:
    shell = Shell()
    shell.feed(PublishRecord(PROVIDER, b"blob", b"old"))
    shell.know(1)
    shell.run(2.0)
    while not any(isinstance(ask.message, Store) for ask in shell.asks.values()):
        for ask in shell.open():
            shell.feed(Answered(ask.query, node(1), Contacts([]), []))
    shell.feed(PublishRecord(PROVIDER, b"blob", b"new"))
    shell.answer_all()
    shell.run(0.1)
    shell.answer_all()

    shell.feed(RequestArrived(node(1), 1, FindValue(record_key(PROVIDER, 0, b"blob"))))
    answer = shell.replies[-1].message
    assert isinstance(answer, Values)
    assert b"new" in answer.records[0].body
    assert len(shell.published) == 2


def test_withdrawn_record_is_signed_no_more() -> None:
    shell = Shell()
    shell.know(1)
    shell.feed(PublishRecord(PROVIDER, b"blob", b"value"), WithdrawRecord(PROVIDER, b"blob"))
    shell.run(10_000.0)

    assert shell.published == []


def test_mesh_that_has_grown_is_published_to_again() -> None:
    """Of the 20 nearest then, few are still the nearest."""
    shell = Shell()
    shell.feed(PublishRecord(PROVIDER, b"blob", b"value"))
    for numbers in ((1,), (2, 3), (4,)):
        shell.know(*numbers)
        shell.live(10.0)

    assert [each.copies for each in shell.published] == [1, 4]


# --- time ---------------------------------------------------------------------------------------------------------


def test_node_alone_is_silent_for_a_day() -> None:
    shell = Shell()
    shell.feed(Tick(), PublishRecord(DirectoryKind.CONTACT, ME, b"here"))
    shell.run(86_400.0)

    assert not shell.asks


def test_bucket_into_which_nobody_looks_is_refreshed_every_hour() -> None:
    shell = Shell()
    shell.know(1, 2, 3)
    shell.live(60.0)
    rounds = [len(shell.live(3_600.0)) for _ in range(3)]

    assert rounds == [3, 3, 3]


def test_idle_mesh_asks_little() -> None:
    """The package's storm: 5,272 questions a second while nobody wants anything."""
    shell = Shell()
    shell.feed(PublishRecord(DirectoryKind.CONTACT, ME, b"here"), PublishRecord(PROVIDER, b"blob", b"value"))
    chance = random.Random(1)
    shell.know(*(chance.getrandbits(160) for _ in range(1_000)))
    asked = len(shell.live(4 * 3_600.0))

    assert asked / (4 * 3_600) < 0.2


# --- anything at all ----------------------------------------------------------------------------------------------

NUMBERS = st.integers(1, 60)


class Anything(RuleBasedStateMachine):
    """Events in any order, true answers and false ones: bounds hold, every search ends, no wake is in vain."""

    def __init__(self) -> None:
        super().__init__()
        self.shell = Shell(DirectoryConfig(settle_s=2.0, searches_max=3, waiting_max=5, records_max=20))
        self.searches = 0

    @rule(number=NUMBERS)
    def seen(self, number: int) -> None:
        self.shell.know(number)

    @rule(number=NUMBERS, revoked=st.booleans())
    def lost(self, number: int, revoked: bool) -> None:
        self.shell.feed(ContactLost(node(number), revoked))
        assert self.shell.machine.contact(node(number)) is None

    @rule(number=NUMBERS)
    def look_up_nodes(self, number: int) -> None:
        self.searches += 1
        self.shell.feed(LookUpNodes(self.searches, Key(node(number))))

    @rule(name=st.sampled_from([b"a", b"b"]), kind=st.sampled_from([PROVIDER, DirectoryKind.JOB]), all_=st.booleans())
    def look_up_records(self, name: bytes, kind: DirectoryKind, all_: bool) -> None:
        self.searches += 1
        self.shell.feed(LookUpRecords(self.searches, kind, name, all_))

    @rule(
        data=st.data(),
        hints=st.lists(NUMBERS, max_size=20),
        name=st.sampled_from([b"a", b"b"]),
        forged=st.booleans(),
    )
    def answered(self, data: st.DataObject, hints: list[int], name: bytes, forged: bool) -> None:
        if not self.shell.asks:
            return
        ask = self.shell.asks.pop(data.draw(st.sampled_from(sorted(self.shell.asks))))
        answer = data.draw(st.sampled_from(["contacts", "values", "stored", "failed"]))
        sender = NodeId(ask.contact.node)
        contacts = [contact(hint) for hint in hints]
        if answer == "contacts":
            self.shell.feed(Answered(ask.query, sender, Contacts(contacts), []))
        elif answer == "values":
            record = verified(sender, name, version=len(hints))
            records = [record] if self.shell.machine.wanted(ask.query, record.record) else []
            self.shell.feed(Answered(ask.query, sender, Values([], contacts), records, forged))
        elif answer == "stored":
            self.shell.feed(Answered(ask.query, sender, Stored(StoreOutcome.KEPT), []))
        else:
            self.shell.feed(QueryFailed(ask.query))

    @rule(number=NUMBERS, name=st.sampled_from([b"a", b"b", b"c"]), version=st.integers(0, 3), salt=st.integers(0, 2))
    def store(self, number: int, name: bytes, version: int, salt: int) -> None:
        self.shell.feed(StoreArrived(node(number), 1, salt, verified(node(number), name, version=version)))

    @rule(name=st.sampled_from([b"a", b"b"]), value=st.binary(max_size=2), publish=st.booleans())
    def publish(self, name: bytes, value: bytes, publish: bool) -> None:
        self.shell.feed(PublishRecord(PROVIDER, name, value) if publish else WithdrawRecord(PROVIDER, name))

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 4_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.shell.run(seconds)

    @invariant()
    def bounds_hold(self) -> None:
        machine = self.shell.machine
        assert machine.records() <= 22
        assert machine.contacts() <= 60
        assert len(machine.nearest(Key(ME), ME)) <= 20

    def teardown(self) -> None:
        self.shell.run(120.0)
        assert sorted(self.shell.ended) == list(range(1, self.searches + 1)), "every search ends"


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("thorough", [False, True])
def test_search_whose_contacts_all_fail_ends_in_a_bounded_time(thorough: bool) -> None:
    shell = Shell()
    shell.know(*range(1, 50))
    shell.feed(LookUpRecords(1, DirectoryKind.JOB, b"job", thorough))
    shell.run(31.0)

    assert 1 in shell.ended
    assert shell.ended[1].seconds <= 30.0
