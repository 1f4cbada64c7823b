"""Which sessions a node seeks, and how patiently."""

import itertools
from collections.abc import Callable
from typing import Any

Make = Callable[..., Any]


def test_the_larger_id_leaves_the_first_dial_to_the_smaller_one(watcher: Make) -> None:
    here = watcher(index=5)

    here.join(3, 9, linked=False)

    assert [node[-1] for node in here.dials] == [9]
    here.wait(here.config.courtesy_s)
    assert [node[-1] for node in here.dials] == [9, 3]


def test_neighbours_that_connect_first_are_not_dialled(watcher: Make) -> None:
    here = watcher(index=5)
    here.join(3)

    here.wait(10.0, answering=[3])

    assert here.dials == []
    assert [node[-1] for node in here.detector.connected_neighbours()] == [3]


def test_a_neighbour_without_addresses_is_never_dialled(watcher: Make) -> None:
    """It is behind a translation of addresses and comes to us."""
    here = watcher()
    here.publish(bytes(19) + b"\x01", addresses=())

    here.wait(60.0)

    assert here.dials == []


def test_failed_dials_are_repeated_after_pauses_that_double(watcher: Make) -> None:
    here = watcher()
    here.join(1, linked=False)
    here.join(2, 3)
    times = []
    while len(times) < 6:
        here.dials.clear()
        here.dial_failed(1)
        while not here.dials:
            here.wait(here.detector.next_at(), answering=[2, 3], reporting=True)
        times.append(here.now)

    pauses = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    for number, pause in enumerate(pauses):
        assert 0.5 * 0.25 * 2**number <= pause <= 0.25 * 2**number


def test_no_more_dials_are_under_way_than_allowed(watcher: Make) -> None:
    here = watcher()

    here.join(*range(1, 60), linked=False)

    assert len(here.dials) <= here.config.dials_max
    before = len(here.dials)
    here.up(here.dials[0][-1])
    assert len(here.dials) - before <= 1


def test_a_mesh_of_sixty_wants_twenty_links_at_most(watcher: Make) -> None:
    here = watcher()

    here.join(*range(1, 60))

    assert 10 <= len(here.detector.connected_neighbours()) <= 20
    assert len(here.detector.connected) == 59


def test_a_member_that_is_gone_is_dialled_no_more(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2)
    here.down(1)
    here.dials.clear()

    here.take(here.roster.bury(bytes(19) + b"\x01", here.roster.get(bytes(19) + b"\x01").version, here.now))
    here.dial_failed(1)
    here.wait(60.0, answering=[2])

    assert here.dials == []


def test_a_session_that_ended_is_sought_again_at_once(watcher: Make) -> None:
    here = watcher()
    here.join(1)
    here.dials.clear()

    here.down(1)

    assert [node[-1] for node in here.dials] == [1]


def test_a_neighbour_that_ends_each_session_soon_is_dialled_ever_more_seldom(watcher: Make) -> None:
    """Two processes with one identity replaced each other 50 times a second, at a quarter of every peer's processor."""
    here = watcher()
    here.join(1, 2, 3)
    here.wait(100.0, answering=[1, 2, 3])
    here.dials.clear()
    dialled = []
    here.down(1)
    while here.now < 400.0:
        while not here.dials:
            here.wait(here.detector.next_at(), answering=[2, 3], reporting=True)
        dialled.append(here.now)
        here.dials.clear()
        here.up(1)
        here.down(1)

    pauses = [later - earlier for earlier, later in itertools.pairwise(dialled)]
    assert pauses[:2] == [0.0, 0.0]
    assert all(4.9 <= pause <= 10.0 for pause in pauses[10:])


def test_a_neighbour_whose_session_had_lasted_is_dialled_at_once(watcher: Make) -> None:
    here = watcher()
    here.join(1, 2, 3)
    for turn in range(1, 10):
        here.wait(turn * 60.0, answering=[1, 2, 3])
        here.dials.clear()
        here.down(1)
        assert [node[-1] for node in here.dials] == [1]
        here.up(1)
