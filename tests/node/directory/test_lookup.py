"""One lookup against nodes that are slow, dead, or make contacts up."""

from dataclasses import replace

import pytest

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.lookup import Lookup
from meshd_protocol.ids import Key, NodeId
from meshd_protocol.messages.directory import Contact

ME = NodeId(b"\xff" * 20)
TARGET = Key(bytes(20))
CONFIG = DirectoryConfig()


def contact(number: int) -> Contact:
    return Contact(NodeId(number.to_bytes(20, "big")), ["host:1"])


def contacts(*numbers: int) -> list[Contact]:
    return [contact(number) for number in numbers]


def numbers(asked: list[Contact]) -> list[int]:
    return [int.from_bytes(each.node, "big") for each in asked]


def lookup(*start: int, paths: int = 1, config: DirectoryConfig = CONFIG) -> Lookup:
    return Lookup(TARGET, ME, contacts(*start), paths, config, 0.0)


def answer(lookup: Lookup, number: int, *hints: int) -> None:
    lookup.answered(NodeId(contact(number).node), contacts(*hints), frozenset())


def test_nearest_are_asked_first_and_so_many_at_a_time() -> None:
    search = lookup(*range(100, 110))

    assert numbers(search.ask(0.0)) == [100, 101, 102, 103, 104]
    assert search.ask(0.0) == []
    answer(search, 102)
    assert numbers(search.ask(0.0)) == [105]


def test_silent_node_is_hedged_and_then_passed_over() -> None:
    search = lookup(1, 2, 3, 4, 5, 6)
    search.ask(0.0)

    assert search.next_at(0.0) == 0.25
    assert numbers(search.ask(0.25)) == [6]
    for number in (2, 3, 4, 5, 6):
        answer(search, number)
    assert not search.ended(0.3)
    assert search.next_at(0.3) == 0.75
    search.ask(0.75)
    assert search.ended(0.75)
    assert numbers(search.answerers()) == [2, 3, 4, 5, 6]


def test_asking_at_the_very_time_that_was_named_makes_progress() -> None:
    """A difference of floats can be below what the sum said: then virtual time would stand still."""
    begun = 0.1 + 0.2
    search = Lookup(TARGET, ME, contacts(1), 1, CONFIG, begun)
    search.ask(begun)
    times = [begun]
    while not search.ended(times[-1]):
        times.append(search.next_at(times[-1]))
        search.ask(times[-1])

    assert times == sorted(set(times))
    assert len(times) == 3


def test_late_answer_counts_while_the_lookup_lasts() -> None:
    search = lookup(1, 2)
    search.ask(0.0)
    search.ask(0.75)
    answer(search, 1, 3)

    assert numbers(search.answerers()) == [1]
    assert numbers(search.ask(0.8)) == [3]


def test_only_nearer_contacts_are_taken_once_enough_have_answered() -> None:
    search = lookup(*range(100, 120))
    while asked := numbers(search.ask(0.0)):
        for number in asked:
            answer(search, number, *range(200, 220))
    assert search.ended(0.0)
    assert search.questions == 20

    late = lookup(*range(100, 121))
    while asked := numbers(late.ask(0.0)):
        for number in asked:
            answer(late, number, *(() if number != 119 else (50, 130)))
    assert numbers(late.answerers()) == [50, *range(100, 119)]
    assert late.questions == 21


def test_attacker_with_ever_nearer_contacts_ends_at_the_bound() -> None:
    """The parent's crawl was at 727 questions and still going."""
    search = lookup(1 << 159)
    near, asked = 1 << 158, search.ask(0.0)
    while asked:
        for each in asked:
            near -= 1 << 140
            search.answered(NodeId(each.node), contacts(near), frozenset())
        asked = search.ask(0.0)

    assert search.questions == CONFIG.questions_max
    assert search.ended(0.0)


def test_lookup_ends_at_its_time_though_questions_are_open() -> None:
    search = lookup(*range(1, 60), config=replace(CONFIG, late_s=3.0, answer_s=3.0, lookup_s=4.0, alpha=1))
    now = 0.0
    while not search.ended(now):
        search.ask(now)
        now = search.next_at(now)

    assert now == 4.0
    assert search.ask(now) == []


def test_hints_at_ourselves_at_the_distrusted_and_at_those_asked_before_are_passed_over() -> None:
    search = lookup(10)
    search.ask(0.0)
    itself = Contact(ME, ["host:1"])
    search.answered(NodeId(contact(10).node), [itself, *contacts(5, 10, 6)], frozenset({NodeId(contact(5).node)}))

    assert numbers(search.ask(0.0)) == [6]


def test_contact_answers_only_once_and_only_when_it_was_asked() -> None:
    search = lookup(10, 11)
    answer(search, 10, 1)
    search.answered(NodeId(contact(99).node), contacts(2), frozenset())
    search.ask(0.0)
    answer(search, 10, 3)
    answer(search, 10, 4)

    assert numbers(search.ask(0.0)) == [3]


def test_whoever_makes_contacts_up_is_exposed_and_the_rest_of_them_forgotten() -> None:
    """Twenty contacts right beside the target that do not exist: four cost time, the others nothing."""
    search = lookup(100, 101)
    search.ask(0.0)
    answer(search, 100, *range(1, 21))
    answer(search, 101, 50)
    assert numbers(search.ask(0.0)) == [1, 2, 3, 4, 50]
    answer(search, 50)
    assert not search.ended(0.0)
    assert search.ask(0.75) == []

    assert search.liars == {contact(100).node}
    assert search.ended(0.75)
    assert numbers(search.answerers()) == [50, 101]
    assert search.questions == 7


def test_contacts_of_one_node_are_asked_in_earnest_once_the_first_of_them_answers() -> None:
    search = lookup(100)
    search.ask(0.0)
    answer(search, 100, *range(1, 21))
    assert numbers(search.ask(0.0)) == [1, 2, 3, 4]
    answer(search, 1)
    assert numbers(search.ask(0.0)) == [5, 6]

    for number in range(2, 7):
        answer(search, number)
    while asked := numbers(search.ask(0.0)):
        for number in asked:
            answer(search, number)
    assert numbers(search.answerers()) == list(range(1, 21))
    assert search.ended(0.0)


def test_what_others_named_as_well_survives_a_liar() -> None:
    search = lookup(100, 101, config=replace(CONFIG, alpha=3))
    search.ask(0.0)
    answer(search, 100, 1, 2, 3, 4, 60)
    answer(search, 101, 60)
    for _ in range(3):
        for each in search.ask(0.0):
            search.failed(NodeId(each.node)) if each.node < contact(50).node else answer(search, 60)

    assert search.liars == {contact(100).node}
    assert numbers(search.answerers()) == [60, 101]


def test_honest_node_whose_contacts_were_only_late_is_no_liar() -> None:
    search = lookup(100)
    search.ask(0.0)
    answer(search, 100, 1, 2, 3)
    search.ask(0.0)
    search.ask(0.75)
    for number in (1, 2, 3):
        answer(search, number)
    answer(search, 1, 4, 5)
    search.ask(0.8)
    for number in (4, 5):
        search.failed(NodeId(contact(number).node))

    assert search.liars == set()


def test_paths_share_no_node() -> None:
    """A liar on one path steers that path, and no other."""
    search = lookup(*range(100, 120), paths=4)
    asked: list[int] = []
    while more := numbers(search.ask(0.0)):
        asked += more
        for number in more:
            answer(search, number, *(near for near in range(1, 40) if near < number))

    assert len(asked) == len(set(asked))
    assert search.ended(0.0)
    assert numbers(search.answerers()) == list(range(1, 21))


def test_colluders_on_one_path_do_not_hide_the_nearest_from_the_others() -> None:
    liars = {100, *range(1_000, 1_020)}
    search = lookup(100, 101, 102, 103, paths=4)
    while asked := numbers(search.ask(0.0)):
        for number in asked:
            answer(search, number, *(range(1_000, 1_020) if number in liars else range(10, 30)))

    assert numbers(search.answerers())[:5] == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("paths", [1, 4])
def test_lookup_without_a_contact_ends_at_once(paths: int) -> None:
    search = lookup(paths=paths)

    assert search.ask(0.0) == []
    assert search.ended(0.0)
    assert search.answerers() == []


def test_hops_count_the_answers_that_led_to_the_nearest_node() -> None:
    search = lookup(100)
    search.ask(0.0)
    answer(search, 100, 50)
    search.ask(0.0)
    answer(search, 50, 2)
    search.ask(0.0)
    answer(search, 2)

    assert search.hops() == 3
