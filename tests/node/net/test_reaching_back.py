"""A node can find out whether another one can be dialled, without a session between them; and how clocks differ."""

import socket
import time

import pytest
import trio

from meshd_node.net.config import NetConfig


async def test_node_that_can_be_dialled_is_reached_and_no_session_begins(nodes) -> None:
    asked, asker = await nodes.start(), await nodes.start()

    assert await asked.pool.reach(asker.id, asker.address) is None
    assert (asked.heard.story, asker.heard.story) == ([], [])


async def test_reaching_a_node_twice_leaves_the_session_with_it_alone(nodes) -> None:
    asked, asker = await nodes.pair()
    session = asked.pool.link(asker.id)

    assert await asked.pool.reach(asker.id, asker.address) is None
    assert asked.pool.link(asker.id) is session


async def test_address_where_nobody_listens_is_refused(nodes) -> None:
    node, other = await nodes.start(), await nodes.start()
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"

    failure = await node.pool.reach(other.id, address)

    assert failure is not None
    assert (failure.refused, failure.silent) == (True, False)


async def test_address_that_swallows_everything_is_silent(nodes) -> None:
    node, other = await nodes.start(NetConfig(dial_timeout_ms=50)), await nodes.start()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        failure = await node.pool.reach(other.id, f"127.0.0.1:{mute.getsockname()[1]}")

    assert failure is not None
    assert (failure.refused, failure.silent) == (False, True)


async def test_another_node_at_the_address_is_not_the_one_that_was_looked_for(nodes) -> None:
    """Else whoever asks could have a third party's address confirmed as its own."""
    node, other, third = [await nodes.start() for _ in range(3)]

    failure = await node.pool.reach(other.id, third.address)

    assert failure is not None
    assert "answers here" in str(failure)
    assert (failure.refused, failure.silent) == (False, False)


@pytest.mark.parametrize("wrong_s", [-40.0, 40.0])
async def test_both_sides_of_a_session_know_how_far_their_clocks_are_apart(nodes, make_clocks, wrong_s: float) -> None:
    right, wrong = await nodes.start(), await nodes.start(clocks=make_clocks(wrong_s))

    await nodes.meet(right, wrong)

    assert right.pool.link(wrong.id).ahead_s == pytest.approx(wrong_s, abs=5.0)
    assert wrong.pool.link(right.id).ahead_s == pytest.approx(-wrong_s, abs=5.0)


@pytest.fixture
def make_clocks():
    class Clocks:
        def __init__(self, ahead_s: float) -> None:
            self.monotonic = trio.current_time
            self.wall = lambda: time.time() + ahead_s

    return Clocks
