import random

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.seeds import Seeds
from meshd_protocol.ids import NodeId

ALICE, BOB = NodeId(b"a" * 20), NodeId(b"b" * 20)


def seeds(*addresses: str) -> Seeds:
    return Seeds(addresses, random.Random(1), MembershipConfig(dial_first_s=1.0, dial_last_s=30.0))


def test_without_seeds_there_is_nothing_to_wait_for() -> None:
    assert seeds().due([], [], 0.0) == []
    assert seeds().next_at() == float("inf")


def test_pauses_double_up_to_a_bound() -> None:
    chosen, now, pauses = seeds("a:1"), 0.0, []
    for _ in range(10):
        assert chosen.due([], [], now) == ["a:1"]
        chosen.failed("a:1", now)
        pauses.append(chosen.next_at() - now)
        now = chosen.next_at()

    assert all(0.5 * min(30, 2**i) <= pause <= min(30, 2**i) for i, pause in enumerate(pauses)), pauses


def test_who_answered_is_left_alone_while_it_lives() -> None:
    chosen = seeds("a:1")
    chosen.due([], [], 0.0)
    chosen.answered("a:1", ALICE)

    assert chosen.due([ALICE], [], 30.0) == []
    assert chosen.due([BOB], [], 60.0) == ["a:1"]


def test_an_address_that_a_connected_node_listens_at_is_not_dialled() -> None:
    assert seeds("a:1", "b:1").due([ALICE], ["a:1"], 0.0) == ["b:1"]


def test_a_node_that_claims_a_seeds_address_does_not_keep_others_away_from_it_for_ever() -> None:
    """The only seed that answered may be a liar, which names the addresses of the others as its own."""
    chosen = seeds("a:1")

    dialled = [now for now in range(0, 1_000, 30) if chosen.due([BOB], ["a:1"], float(now))]
    assert dialled == [300, 600, 900]

    chosen.answered("a:1", ALICE)
    assert not any(chosen.due([ALICE, BOB], ["a:1"], float(now)) for now in range(1_000, 2_000, 30))


def test_a_seed_that_is_this_node_itself_is_never_dialled() -> None:
    chosen = seeds("a:1")

    assert not any(chosen.due([], [], float(now), own=["a:1"]) for now in range(0, 1_000, 30))


def test_a_dial_that_nobody_reports_on_is_repeated_at_the_slowest_pace() -> None:
    chosen = seeds("a:1")

    assert [chosen.due([], [], now) for now in (0.0, 29.0, 30.0)] == [["a:1"], [], ["a:1"]]


def test_seeds_all_fail_from_the_last_ones_failure_until_one_answers() -> None:
    chosen = seeds("a:1", "b:1")
    said = [chosen.all_fail(), seeds().all_fail()]
    chosen.failed("a:1", 0.0)
    said.append(chosen.all_fail())
    chosen.failed("b:1", 0.0)
    assert (said, chosen.all_fail()) == ([False] * 3, True)

    chosen.answered("a:1", ALICE)
    assert not chosen.all_fail()


def test_news_of_an_address_that_is_no_seed_change_nothing() -> None:
    chosen = seeds("a:1")
    chosen.answered("x:1", ALICE)
    chosen.failed("x:1", 0.0)

    assert chosen.due([ALICE], [], 0.0) == ["a:1"]
