"""A member that says too much costs little: it is read at a pace, and not for ever. Work is not slowed by it."""

import itertools

import pytest
import trio

from meshd_node.core.allowance import Allowance
from meshd_node.net.config import NetConfig
from meshd_node.net.errors import PeerFloods
from meshd_node.net.talk import Talk
from meshd_protocol.errors import CloseCode
from meshd_protocol.framing import Frame
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.peer import PEER, Close, Credit, Ping, Slice

PEER_NODE = NodeId(bytes(20))
CONFIG = NetConfig(talk_per_s=100, talk_burst=1_000, silence_ms=15_000)
PING = Frame(Ping.KIND, 0, b"\x90")


def talk(allowances: Allowance | None = None) -> Talk:
    fresh = Allowance(CONFIG.talk_per_s, CONFIG.talk_burst)
    return Talk(PEER_NODE, fresh if allowances is None else allowances, CONFIG)


def pause_after(link: Talk, frames: int, now: float, frame: Frame = PING) -> float:
    for _ in range(frames):
        link.hear(frame)
    return link.pause_s(now)


def test_a_burst_is_read_without_a_pause() -> None:
    link = talk()

    assert pause_after(link, 1_000, now=0.0) == 0.0
    assert pause_after(link, 100, now=0.0) == 1.0


def test_large_messages_count_by_their_bytes() -> None:
    assert pause_after(talk(), 10, now=0.0, frame=Frame(Ping.KIND, 0, bytes(128 * 199))) == 10.0


def test_work_and_slices_are_no_talk() -> None:
    link = talk()

    for kind in (Slice.KIND, Credit.KIND):
        assert pause_after(link, 5_000, now=0.0, frame=Frame(kind, 0, bytes(1_000))) == 0.0


def test_a_peer_that_stays_below_the_pace_is_never_waited_for() -> None:
    link = talk()

    assert sum(pause_after(link, 100, now=float(second)) for second in range(3_600)) == 0.0


def test_a_flood_is_read_at_the_pace_and_then_no_more() -> None:
    """Whatever it sends, no more is read than the burst and what the pace allows in its patience."""
    link, now, read = talk(), 0.0, 0
    while now < 9.9:
        read += 50
        now += pause_after(link, 50, now)
    with pytest.raises(PeerFloods, match="100 messages or 12 KiB a second"):
        pause_after(link, 100, now)

    assert now == pytest.approx(10.0, abs=0.5)
    assert read <= 1_000 + 100 * 11


def test_hanging_up_does_not_fill_what_a_peer_may_say() -> None:
    allowances = Allowance(CONFIG.talk_per_s, CONFIG.talk_burst)
    pause_after(talk(allowances), 1_000, now=0.0)

    assert pause_after(talk(allowances), 100, now=0.0) == 1.0
    assert pause_after(Talk(NodeId(bytes([1] * 20)), allowances, CONFIG), 100, now=0.0) == 0.0


def test_waiting_for_a_peer_is_forgiven_once_it_was_quiet_for_a_while() -> None:
    """Repair comes in bursts: a node that is slow to read them must not end its peers one hour after the other."""
    link = talk()
    for hour in range(24):
        assert pause_after(link, 1_800, now=hour * 3_600.0) == 8.0


def test_patience_ends_before_silence_would() -> None:
    for silence_ms in (1_000, 15_000, 60_000):
        assert NetConfig(ping_interval_ms=300, silence_ms=silence_ms).talk_patience_s < silence_ms / 1_000


async def test_a_peer_that_floods_loses_its_session_with_a_named_reason(nodes, autojump_clock) -> None:
    """No more of the flood is answered than was allowed; another peer of the same node notices nothing."""
    server, other = await nodes.start(CONFIG), await nodes.start()
    await nodes.meet(other, server)
    flood = PEER.encode(Ping(), 0) * 5_000
    async with nodes.peer_of(server) as peer:
        await peer.greet()
        await peer.accepted()
        await peer.send(flood)
        kinds = []
        for _ in itertools.count():
            message = PEER.decode(await peer.connection.next_frame())
            if isinstance(message, Close):
                break
            kinds.append(type(message).__name__)

    assert message.code is CloseCode.TOO_LARGE
    assert "no work" in message.reason
    assert 1_000 <= kinds.count("Pong") <= 1_000 + 100 * 10 + 512
    assert server.pool.link(other.id) is not None
    assert not other.heard.downs


async def test_what_is_said_slowly_comes_and_late_is_not_lost(nodes, autojump_clock) -> None:
    """A pause is no loss: all of a burst above the allowance arrives, in order."""
    server = await nodes.start(CONFIG)
    async with nodes.peer_of(server) as peer:
        await peer.greet()
        await peer.accepted()
        await peer.send(PEER.encode(Ping(), 0) * 1_500 + PEER.encode(Credit(7, 700), 0))
        with trio.fail_after(60):
            await server.heard.until(lambda: server.heard.received)

    assert [message for message, _ in server.heard.received] == [Credit(7, 700)]
