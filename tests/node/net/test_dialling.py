"""However dials cross, two nodes end with one session, the same on both sides; and a dial that fails says why."""

import random
import socket

import pytest
import trio
import trio.testing

from meshd_node.net.config import NetConfig
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.peer import Credit


@pytest.mark.parametrize("seed", range(15))
async def test_crossing_dials_end_in_one_session_and_lose_nothing(nodes, seed: int) -> None:
    """Each side sends the moment its link is up: had it been up on the connection that loses, this would be lost."""
    rng = random.Random(seed)
    a, b = await nodes.start(), await nodes.start()
    for node in (a, b):
        up = node.heard.link_up

        def link_up(link, up=up) -> None:
            up(link)
            link.send(Credit(link.session, 42))

        node.heard.link_up = link_up
    dials = [
        lambda: a.pool.start_dial(b.id, [b.address]),
        lambda: b.pool.start_dial(a.id, [a.address]),
        lambda: a.pool.dial_seed(b.address),
        lambda: b.pool.dial_seed(a.address),
    ]
    rng.shuffle(dials)

    for dial in dials:
        dial()
        for _ in range(rng.choice([0, 0, 1, 3, 10])):
            await trio.lowlevel.checkpoint()
    await a.heard.until(lambda: a.heard.received)
    await b.heard.until(lambda: b.heard.received)
    # Whatever still runs has nothing to change.
    await trio.testing.wait_all_tasks_blocked(0.01)

    assert [what for what, _ in a.heard.story] == ["up", "messages"], f"repeat with seed={seed}"
    assert [what for what, _ in b.heard.story] == ["up", "messages"], f"repeat with seed={seed}"
    assert a.pool.link(b.id).dialled != b.pool.link(a.id).dialled


async def test_many_nodes_that_all_dial_each_other_have_one_session_for_each_pair(nodes) -> None:
    everyone = [await nodes.start() for _ in range(6)]
    for one in everyone:
        for other in everyone:
            if one is not other:
                one.pool.start_dial(other.id, [other.address])
    for one in everyone:
        await one.heard.until(lambda one=one: len(one.pool.links()) == 5)
    await trio.testing.wait_all_tasks_blocked(0.01)

    assert all(len(one.heard.links) == 5 and not one.heard.downs for one in everyone)


async def test_dialling_a_peer_that_is_there_does_nothing(nodes) -> None:
    a, b = await nodes.pair()
    a.pool.start_dial(b.id, [b.address])
    b.pool.start_dial(a.id, [a.address])
    a.pool.dial_seed(b.address)
    await trio.testing.wait_all_tasks_blocked(0.01)

    assert [what for what, _ in a.heard.story] == ["up"]
    assert [what for what, _ in b.heard.story] == ["up"]


def unused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


async def test_an_address_where_nobody_listens_is_a_refusal(nodes) -> None:
    a = await nodes.start()
    a.pool.start_dial(NodeId(bytes(20)), [unused_address()])
    await a.heard.until(lambda: a.heard.failures)

    node, _, reason, refused = a.heard.failures[0]
    assert node == bytes(20)
    assert refused
    assert "nobody listens" in reason


async def test_the_next_address_is_tried(nodes) -> None:
    a, b = await nodes.start(), await nodes.start()
    a.pool.start_dial(b.id, [unused_address(), "not an address", b.address])
    await a.heard.until(lambda: a.heard.links)

    assert a.heard.failures == []


async def test_a_node_that_answers_for_another_is_dropped(nodes) -> None:
    a, b, c = [await nodes.start() for _ in range(3)]
    a.pool.start_dial(c.id, [b.address])
    await a.heard.until(lambda: a.heard.failures)

    assert "answers here, not" in a.heard.failures[0][2]
    assert not a.heard.failures[0][3]
    assert b.heard.links == []


async def test_a_node_does_not_meet_itself(nodes) -> None:
    a = await nodes.start()
    a.pool.dial_seed(a.address)
    await a.heard.until(lambda: a.heard.failures)

    assert "this node's own" in a.heard.failures[0][2]
    assert a.heard.links == []


async def test_two_meshes_never_mix(nodes) -> None:
    a = await nodes.start()
    b = await nodes.start(credentials=type(nodes.mesh)(seed=77).node())
    a.pool.dial_seed(b.address)
    await a.heard.until(lambda: a.heard.failures)

    assert "certificate is not valid here" in a.heard.failures[0][2]
    assert a.heard.links == b.heard.links == []


async def test_a_clock_that_differs_is_named(nodes) -> None:
    a, b = await nodes.start(), await nodes.start()
    ahead = type(a.pool.clocks)(wall=lambda: b.pool.clocks.wall() + 200)
    wrong = await nodes.start(clocks=ahead)
    wrong.pool.dial_seed(b.address)
    await wrong.heard.until(lambda: wrong.heard.failures)

    assert "200 s behind" in wrong.heard.failures[0][2]


async def test_a_server_that_never_answers_costs_a_bounded_time(nodes, autojump_clock) -> None:
    a = await nodes.start(NetConfig(dial_timeout_ms=4_000))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        a.pool.dial_seed(f"127.0.0.1:{mute.getsockname()[1]}")
        await a.heard.until(lambda: a.heard.failures)

    assert "no answer within 4 s" in a.heard.failures[0][2]
    assert not a.heard.failures[0][3]


@pytest.mark.parametrize("host", ["a" * 70, "a..b", "é" * 70, "\u2028", "a\0b"])  # none that a resolver is asked for
async def test_address_whose_name_is_no_name_fails_like_any_other(nodes, host: str) -> None:
    """A member publishes its own addresses: one that no resolver can write down must not end the daemons that try."""
    node, other = await nodes.start(), await nodes.start()

    node.pool.start_dial(other.id, [f"{host}:7423"])
    await node.heard.until(lambda: node.heard.failures)

    assert "can not be resolved" in node.heard.failures[0][2]


async def test_machine_that_can_make_no_socket_fails_the_dial_and_lives(nodes, monkeypatch) -> None:
    node, other = await nodes.start(), await nodes.start()

    def no_socket(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("meshd_node.net.sockets.socket.socket", no_socket)
        node.pool.start_dial(other.id, [other.address])
        await node.heard.until(lambda: node.heard.failures)

    assert "Too many open files" in node.heard.failures[0][2]
