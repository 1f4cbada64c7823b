"""What is wrong in the tables of the package `kademlia`, fault by fault, and right in those that are made of them."""

import random

import pytest
from kademlia.node import Node, NodeHeap
from kademlia.routing import KBucket, RoutingTable

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.shortlist import Candidate, Shortlist
from meshd_node.core.directory.table import Bucket, Known, Table
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.directory import Contact

ME = NodeId(bytes(20))
TOP = 1 << 160


def place(number: int) -> bytes:
    return number.to_bytes(20, "big")


def known(number: int, seen_at: float = 0.0, address: str = "host:1") -> Known:
    return Known(Contact(NodeId(place(number)), [address]), seen_at)


def places(count: int, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return [chance.getrandbits(160) for _ in range(count)]


def table(k: int = 20, bits: int = 5) -> Table:
    return Table(ME, DirectoryConfig(k=k, bits=bits), 0.0)


class Pings:
    """The protocol that the parent pings with: it counts."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def call_ping(self, node: Node) -> None:
        self.asked.append(node.id)


def parent_table(monkeypatch: pytest.MonkeyPatch, k: int = 20) -> tuple[RoutingTable, Pings]:
    monkeypatch.setattr("asyncio.ensure_future", lambda _: None)
    pings = Pings()
    return RoutingTable(pings, k, Node(ME)), pings


def nearest(numbers: list[int], target: int, k: int) -> list[bytes]:
    return [place(number) for number in sorted(numbers, key=lambda number: number ^ target)[:k]]


# --- find_neighbors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [50, 200])
def test_parent_misses_nearest_contacts_and_child_never_does(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes whole buckets by their index until it has k, not by their distance."""
    parent, _ = parent_table(monkeypatch)
    child = table()
    numbers = places(count)
    for number in numbers:
        parent.add_contact(Node(place(number)))
        child.seen(known(number).contact, 0.0)
    held = [known.long_id for bucket in parent.buckets for known in bucket.get_nodes()]
    kept = [int.from_bytes(contact.node, "big") for contact in child]
    targets = places(100, seed=2)

    exact = sum(
        [node.id for node in parent.find_neighbors(Node(place(target)))] == nearest(held, target, 20)
        for target in targets
    )

    assert exact < 70
    for target in targets:
        assert [contact.node for contact in child.nearest(place(target), 20)] == nearest(kept, target, 20)


def test_parent_never_finds_the_very_node_and_child_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for a node's own place could not give its address."""
    parent, _ = parent_table(monkeypatch)
    child = table()
    for number in (5, 6, 7):
        parent.add_contact(Node(place(number)))
        child.seen(known(number).contact, 0.0)

    assert place(6) not in [node.id for node in parent.find_neighbors(Node(place(6)))]
    assert child.nearest(place(6), 20)[0].node == place(6)


def test_parent_excludes_everybody_without_an_address_and_child_excludes_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, _ = parent_table(monkeypatch)
    child = table()
    for number in (5, 6, 7):
        parent.add_contact(Node(place(number)))
        child.seen(known(number).contact, 0.0)

    assert parent.find_neighbors(Node(place(1)), exclude=Node(place(5))) == []
    assert [contact.node for contact in child.nearest(place(1), 20, (place(5),))] == [place(7), place(6)]


# --- ranges -------------------------------------------------------------------------------------------------------


def test_parent_loses_a_contact_at_the_end_of_a_range_and_child_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a split it looks for the last id of the lower range in the upper one."""
    parent, _ = parent_table(monkeypatch)
    parent.split_bucket(0)
    edge = Node(place(parent.buckets[0].range[1]))
    child = table()
    child.split_bucket(0)
    last = child.buckets[0].range[1]

    assert parent.buckets[0].has_in_range(edge)
    assert parent.get_bucket_for(edge) == 1
    assert child.buckets[0].has_in_range(known(last))
    assert child.get_bucket_for(known(last)) == 0
    assert child.get_bucket_for(known(last + 1)) == 1


def test_parents_halves_are_no_prefixes_and_childs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole space has one id too many, so that the first id with a leading one falls among those with a zero."""
    parent, _ = parent_table(monkeypatch)
    parent.split_bucket(0)
    child = table()
    child.split_bucket(0)

    assert parent.buckets[0].range[1] == TOP // 2
    assert [bucket.range for bucket in child.buckets] == [(0, TOP // 2 - 1), (TOP // 2, TOP - 1)]


def test_parent_measures_depth_by_whoever_is_there_and_child_by_the_range() -> None:
    """Two ids alike make a bucket of the whole space look 159 bits deep; an empty one raises."""
    parent, child = KBucket(0, TOP, 20), Bucket(0, TOP - 1, 20, 0.0)
    for number in (2, 3):
        parent.add_node(Node(place(number)))
        child.add_node(known(number))

    assert parent.depth() == 159
    assert child.depth() == 0
    with pytest.raises(ValueError, match="empty"):
        KBucket(0, TOP, 20).depth()
    assert Bucket(0, TOP // 4 - 1, 20, 0.0).depth() == 2


# --- order and room -----------------------------------------------------------------------------------------------


def test_parent_keeps_a_contact_twice_and_loses_another_by_it_and_child_does_not() -> None:
    """One that got room stays among those that wait, and takes the room of the next that goes though it has its own."""
    parent, child = KBucket(0, TOP, 2), Bucket(0, TOP - 1, 2, 0.0)
    for bucket, make in ((parent, lambda number: Node(place(number))), (child, known)):
        for number in (1, 2, 3):  # two have room, the third waits
            bucket.add_node(make(number))
        bucket.nodes.pop(place(1))  # room, however it came about
        bucket.add_node(make(3))

    assert place(3) in parent.nodes
    assert place(3) in parent.replacement_nodes
    assert place(3) in child.nodes
    assert place(3) not in child.replacement_nodes


def test_parent_pings_the_oldest_of_a_full_bucket_for_every_newcomer_and_child_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent, pings = parent_table(monkeypatch, k=2)
    child = table(k=2, bits=1)
    far = [TOP // 2 + number // 2 for number in places(200)]
    for number in (1, 2):  # so that our own half is split from the other
        parent.add_contact(Node(place(number)))
        child.seen(known(number).contact, 0.0)
    asked = []
    for count, number in enumerate(far):
        parent.add_contact(Node(place(number)))
        asked.append(child.seen(known(number).contact, 1_000.0 if count > 1 else 0.0))

    assert len(pings.asked) > 50
    assert [contact.node for contact in asked if contact is not None] == [place(far[0])]


def test_child_takes_a_new_address_and_moves_its_node_to_the_end() -> None:
    """Whoever was seen last is the last to be doubted, and reached where it is now."""
    child = table(k=3)
    for number in (1, 2, 3):
        child.seen(known(number).contact, 0.0)

    child.seen(known(1, address="elsewhere:1").contact, 5.0)

    assert [contact.node for contact in child] == [place(2), place(3), place(1)]
    moved = child.contact(NodeId(place(1)))
    assert moved is not None
    assert moved.addresses == ["elsewhere:1"]


# --- time ---------------------------------------------------------------------------------------------------------


def test_parent_reads_a_clock_of_its_own_and_child_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """In virtual time nothing would ever be refreshed."""
    read = []
    monkeypatch.setattr("time.monotonic", lambda: read.append(1) or 0.0)

    parent, _ = parent_table(monkeypatch)
    parent.find_neighbors(Node(place(1)))
    by_parent = len(read)
    child = table()
    child.seen(known(1).contact, 0.0)
    child.nearest(place(1), 20)

    assert by_parent == 2
    assert len(read) == by_parent
    assert child.lonely(random.Random(1), 3_599.0) == []
    assert len(child.lonely(random.Random(1), 3_600.0)) == 1
    assert child.lonely(random.Random(1), 3_600.0) == []


# --- the heap of a lookup -----------------------------------------------------------------------------------------


def test_parents_heap_keeps_all_that_it_is_told_and_childs_nothing_behind_those_that_answered() -> None:
    """A liar that names ever more contacts would have all of them kept, and looked through for each further one."""
    parent, child = NodeHeap(Node(ME), 20), Shortlist(Node(ME), 20, 20)
    for number in range(1, 1_000):
        parent.push(Node(place(number)))
        candidate = Candidate(known(number).contact, 1)
        child.offer(candidate)
        if number <= 20:
            child.answered(candidate)

    assert len(parent.heap) == 999
    assert len(child.heap) == 20
    assert [candidate.long_id for candidate in child.nearest()] == list(range(1, 21))


def test_what_was_behind_moves_up_when_a_candidate_goes() -> None:
    """The parent's heap does so, too; the child's memory of its last answer must not forget it."""
    child = Shortlist(Node(ME), 2, 2)
    for number in (3, 2, 1):
        child.offer(Candidate(known(number).contact, 1))
    before = [candidate.long_id for candidate in child.nearest()]
    child.remove((place(1),))

    assert before == [1, 2]
    assert [candidate.long_id for candidate in child.nearest()] == [2, 3]
    assert child.offer(Candidate(known(1).contact, 1))
    assert [candidate.long_id for candidate in child.nearest()] == [1, 2]
