"""Sessions begin, carry messages and end, over real sockets."""

import itertools
import socket

import pytest
import trio
import trio.testing

from meshd_node.net.config import NetConfig
from meshd_protocol.errors import CloseCode, LocalProtocolError
from meshd_protocol.ids import JobId
from meshd_protocol.limits import CONTROL_BYTES_MAX, MESSAGE_BYTES_MAX, MIB, UNIT_BYTES_MAX
from meshd_protocol.messages.peer import Credit, FunctionData, Ping

JOB = JobId(bytes(20))


def large(size: int) -> FunctionData:
    return FunctionData(JOB, bytes(size))


async def test_both_sides_learn_who_the_other_is(nodes) -> None:
    a, b = await nodes.pair()

    assert a.pool.link(b.id).peer == b.pool.identity.certified
    assert b.pool.link(a.id).peer == a.pool.identity.certified
    assert (a.pool.link(b.id).dialled, b.pool.link(a.id).dialled) == (True, False)


async def test_a_node_whose_certificate_the_root_signed_itself_is_met_like_any_other(nodes) -> None:
    a = await nodes.start(credentials=nodes.mesh.node(by_root=True))
    b = await nodes.start(credentials=nodes.mesh.node(by_root=True))

    await nodes.meet(a, b)

    assert a.pool.link(b.id).peer.chain == b.credentials.chain


async def test_a_seed_is_dialled_without_knowing_who_it_is(nodes) -> None:
    a, b = await nodes.start(), await nodes.start()

    a.pool.dial_seed(b.address)
    await a.heard.until(lambda: a.heard.links)

    assert a.heard.links[0].peer.node == b.id


async def test_messages_arrive_in_order_with_their_streams(nodes) -> None:
    a, b = await nodes.pair()
    link = a.pool.link(b.id)

    for number in range(1_000):
        link.send(Credit(number, 0), stream=number)
    a.pool.flush()
    await b.heard.until(lambda: len(b.heard.received) == 1_000)

    assert b.heard.received == [(Credit(number, 0), number) for number in range(1_000)]


async def test_what_is_queued_together_leaves_in_one_send(nodes) -> None:
    """Coalescing is most of the transport's speed: one system call, few records, whatever the count of messages."""
    a, b = await nodes.pair()
    link = a.pool.link(b.id)
    before = link._control.sends

    for number in range(5_000):
        link.send(Credit(number, 0))
    assert link._control.sends == before, "send() itself must not touch the socket"
    a.pool.flush()

    assert link._control.sends == before + 1
    await b.heard.until(lambda: len(b.heard.received) == 5_000)
    assert len(b.heard.batches) < 20, "a read's messages are one call of the handler"


async def test_a_flood_of_small_messages_leaves_others_their_turn(nodes, nursery) -> None:
    """One peer's probes, 20,000 to a read, made every other answer of a node wait for 2.6 s."""
    a, b = await nodes.pair()
    turns: list[int] = []

    async def somebody_else() -> None:
        while True:
            turns.append(len(b.heard.received))
            await trio.lowlevel.checkpoint()

    nursery.start_soon(somebody_else)
    link = a.pool.link(b.id)
    for number in range(20_000):
        link.send(Credit(number, 0))
    a.pool.flush()
    await b.heard.until(lambda: len(b.heard.received) == 20_000)

    assert [message.units for message, _ in b.heard.received] == list(range(20_000))
    assert max(b.heard.batches) <= 512
    # Trio takes whose turn it is in any order: once before somebody else, and once after.
    assert max(later - earlier for earlier, later in itertools.pairwise(turns)) <= 2 * 512


async def test_few_large_messages_are_a_turn_too(nodes) -> None:
    """Each may hold a hundred signatures to check."""
    a, b = await nodes.pair()

    for _ in range(200):
        a.pool.link(b.id).send(large(4_000))
    a.pool.flush()
    await b.heard.until(lambda: len(b.heard.received) == 200)

    assert max(b.heard.batches) <= 16


async def test_what_a_handler_sends_leaves_when_it_returns(nodes) -> None:
    a, b = await nodes.pair()
    b.heard.on_messages = lambda link, batch: [link.send(message, stream) for message, stream in batch]

    a.pool.link(b.id).send(Credit(7, 7), stream=3)
    a.pool.flush()
    await a.heard.until(lambda: a.heard.received)

    assert a.heard.received == [(Credit(7, 7), 3)]


@pytest.mark.parametrize("size", [CONTROL_BYTES_MAX, MIB, MIB + 1, 5 * MIB + 17])
@pytest.mark.parametrize("sender_dialled", [True, False])
async def test_a_large_message_arrives_whole_whoever_dialled(nodes, size: int, sender_dialled: bool) -> None:
    dialler, server = await nodes.pair()
    sender, receiver = (dialler, server) if sender_dialled else (server, dialler)
    message = FunctionData(JOB, bytes(range(256)) * (size // 256) + b"x" * (size % 256))

    sender.pool.link(receiver.id).send(message, stream=9)
    sender.pool.flush()
    await receiver.heard.until(lambda: receiver.heard.received)

    assert receiver.heard.received == [(message, 9)]
    assert sender.pool.link(receiver.id).has_bulk


async def test_large_messages_arrive_whole_though_their_sender_may_send_little_at_a_time(nodes) -> None:
    """20 MB a second for 4 MiB: slices wait on the clock, not on the socket, and small messages do not wait at all."""
    sender, receiver = await nodes.pair()
    sender.pool.limit_upload(20e6)
    message = FunctionData(JOB, bytes(4 * MIB))

    sender.pool.link(receiver.id).send(message)
    sender.pool.link(receiver.id).send(Credit(7, 7))
    sender.pool.flush()
    await receiver.heard.until(lambda: len(receiver.heard.received) == 2)

    assert [message for message, _ in receiver.heard.received] == [Credit(7, 7), message]


async def test_large_messages_arrive_in_order_on_any_streams(nodes) -> None:
    a, b = await nodes.pair()
    messages = [FunctionData(JOB, bytes([number]) * (300_000 + number)) for number in range(8)]

    for number, message in enumerate(messages):
        a.pool.link(b.id).send(message, stream=number % 3)
    a.pool.flush()
    await b.heard.until(lambda: len(b.heard.received) == 8)

    assert b.heard.received == [(message, number % 3) for number, message in enumerate(messages)]


async def test_a_small_message_overtakes_a_large_one_that_was_sent_before(nodes) -> None:
    """Control never waits for bulk: a credit or a ping arrives while 32 MiB are on their way."""
    a, b = await nodes.pair()
    link = a.pool.link(b.id)
    link.send(large(CONTROL_BYTES_MAX))
    a.pool.flush()
    await b.heard.until(lambda: len(b.heard.received) == 1)

    link.send(large(32 * MIB))
    link.send(Credit(1, 1))
    a.pool.flush()
    await b.heard.until(lambda: len(b.heard.received) == 3)

    assert [type(message) for message, _ in b.heard.received[1:]] == [Credit, FunctionData]


async def test_the_largest_unit_fits_and_what_is_larger_than_a_message_is_our_fault(nodes) -> None:
    a, b = await nodes.pair()
    link = a.pool.link(b.id)
    queued = link.queued_bytes

    with pytest.raises(LocalProtocolError, match="exceeds"):
        link.send(large(MESSAGE_BYTES_MAX + 1))
    assert link.queued_bytes == queued

    link.send(large(UNIT_BYTES_MAX))
    a.pool.flush()
    await b.heard.until(lambda: b.heard.received)
    assert len(b.heard.received[0][0].data) == UNIT_BYTES_MAX


async def test_closing_tells_the_peer_why_and_both_sides_report_it(nodes) -> None:
    a, b = await nodes.pair()

    a.pool.link(b.id).send(Credit(1, 0))
    a.pool.link(b.id).close(CloseCode.NORMAL, "enough for today")
    assert a.pool.link(b.id) is None
    await b.heard.until(lambda: b.heard.downs)
    await a.heard.until(lambda: a.heard.downs)

    assert "enough for today" in b.heard.downs[0][1]
    assert "enough for today" in a.heard.downs[0][1]
    assert b.heard.received == [(Credit(1, 0), 0)], "what was sent before still arrives"


async def test_what_is_sent_after_the_end_is_dropped(nodes) -> None:
    a, b = await nodes.pair()
    link = a.pool.link(b.id)
    link.close()
    link.send(Credit(1, 0))
    await b.heard.until(lambda: b.heard.downs)

    assert b.heard.received == []
    await link.room()


async def test_pings_measure_the_round_trip(nodes) -> None:
    a, b = await nodes.pair()
    # Behind the first ping and its answer on one ordered connection.
    b.heard.on_messages = lambda link, batch: link.send(Credit(2, 0))
    a.pool.link(b.id).send(Credit(1, 0))
    a.pool.flush()
    await a.heard.until(lambda: a.heard.received)

    assert 0 < a.pool.link(b.id).rtt_s < 10


async def test_a_node_that_comes_back_is_a_new_session_after_the_old_one_went_down(nodes) -> None:
    """A restarted peer must not be taken for its former self, nor be kept out by a connection that only looks alive."""
    server = await nodes.start()
    credentials = nodes.mesh.node()
    async with nodes.peer_of(server, credentials) as old, nodes.peer_of(server, credentials) as new:
        await old.greet()
        await old.accepted()
        await new.greet()
        await new.accepted()
        await server.heard.until(lambda: len(server.heard.links) == 2)

        first, second = server.heard.links
        assert server.heard.story == [("up", first.session), ("down", first.session), ("up", second.session)]
        assert first.session < second.session
        assert server.pool.link(second.peer.node) is second


async def test_the_least_recently_used_link_makes_room(nodes) -> None:
    hub = await nodes.start(NetConfig(links_max=2))
    a, b, c = [await nodes.start() for _ in range(3)]
    await nodes.meet(a, hub)
    await nodes.meet(b, hub)
    a.pool.link(hub.id).send(Credit(1, 0))
    a.pool.flush()
    await hub.heard.until(lambda: hub.heard.received)

    await nodes.meet(c, hub)
    await b.heard.until(lambda: b.heard.downs)

    assert {link.peer.node for link in hub.pool.links()} == {a.id, c.id}
    assert "least recently used" in b.heard.downs[0][1]


async def test_stopping_says_goodbye_and_leaves_no_socket(nodes) -> None:
    a, b = await nodes.start(), await nodes.start()
    await nodes.meet(a, b)
    async with trio.open_nursery() as nursery:
        heard = type(a.heard)()
        leaving = type(a.pool)(heard, nodes.mesh.node(), NetConfig(), a.pool.clocks)
        leaving.listen("127.0.0.1:0")
        await nursery.start(leaving.run)
        leaving.start_dial(a.id, [a.address])
        await heard.until(lambda: leaving.link(a.id))
        address = leaving.bound[0]
        leaving.stop("the machine is needed")

    assert leaving.bound == ()
    assert leaving.links() == []
    await a.heard.until(lambda: a.heard.downs)
    assert "the machine is needed" in a.heard.downs[0][1]
    a.pool.dial_seed(address)
    await a.heard.until(lambda: a.heard.failures)
    assert a.heard.failures[0][3], "refused: nobody listens there any more"


async def test_a_silent_peer_is_given_up(nodes, autojump_clock) -> None:
    """A cable pulled out sends nothing, not even an end."""
    server = await nodes.start()
    async with nodes.peer_of(server) as peer:
        await peer.greet()
        await peer.accepted()
        await server.heard.until(lambda: server.heard.downs)

    assert "nothing was heard" in server.heard.downs[0][1]
    assert trio.current_time() > 15


async def test_idle_links_stay_up_by_pings(nodes, autojump_clock) -> None:
    a, b = await nodes.pair()
    await trio.sleep(3_600)

    assert a.heard.downs == b.heard.downs == []
    assert a.pool.link(b.id).rtt_s is not None


async def test_a_peer_that_talks_is_not_pinged_for_a_sign_of_life(nodes, autojump_clock) -> None:
    """Probes pass between the neighbours of a mesh anyway: pings on top would double what an idle mesh sends."""
    a, b = await nodes.pair()
    for _ in range(60):
        a.pool.link(b.id).send(Credit(1, 1))
        b.pool.link(a.id).send(Credit(1, 1))
        a.pool.flush()
        b.pool.flush()
        await trio.sleep(2)

    sends = b.pool.link(a.id)._control.sends
    assert sends < 60 + 10


async def test_a_link_that_nobody_needs_ends_after_a_minute(nodes, autojump_clock) -> None:
    """Repair dials somebody else every ten seconds: such links must not pile up."""
    a, b = await nodes.pair()
    a.heard.needed = b.heard.needed = False
    began = trio.current_time()
    await b.heard.until(lambda: b.heard.downs)

    assert 60 < trio.current_time() - began < 70
    assert "nobody needs it" in b.heard.downs[0][1]


async def test_a_link_that_is_used_or_needed_by_its_dialler_stays(nodes, autojump_clock) -> None:
    a, b = await nodes.pair()
    b.heard.needed = False
    await trio.sleep(600)
    assert b.heard.downs == [], "a unit of hours may run"
    for sent in range(1, 21):
        b.pool.link(a.id).send(Credit(1, 1))
        b.pool.flush()
        # The clock jumps while real sockets carry it: what was sent counts once it is there.
        await a.heard.until(lambda sent=sent: len(a.heard.received) == sent)
        a.heard.needed = False
        await trio.sleep(30)

    assert a.heard.downs == b.heard.downs == []


async def test_room_waits_for_a_peer_that_reads_slowly_and_ends_with_it(nodes) -> None:
    """Backpressure: whoever fills a queue waits until the peer has read, and memory stays bounded."""
    config = NetConfig(queue_high_bytes=MIB)
    server = await nodes.start(config)
    async with nodes.peer_of(server) as slow:
        await slow.greet()
        await slow.accepted()
        await server.heard.until(lambda: server.heard.links)
        link = server.heard.links[0]
        sent = 0

        async def fill() -> None:
            nonlocal sent
            while sent < 10_000:
                for _ in range(100):
                    link.send(FunctionData(JOB, bytes(10_000)))
                sent += 100
                server.pool.flush()
                await link.room()

        async with trio.open_nursery() as filling:
            filling.start_soon(fill)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert sent < 10_000, "nobody reads, so this must be waiting"
            assert link.queued_bytes < 3 * MIB

            received = 0
            while received < 10_000:
                await slow.connection.fill()
                received += sum(1 for frame in slow.connection.frames() if frame.kind != Ping.KIND)
        assert link.queued_bytes <= MIB


async def test_who_waits_for_room_is_woken_by_the_end(nodes) -> None:
    server = await nodes.start(NetConfig(queue_high_bytes=MIB))
    async with nodes.peer_of(server) as slow:
        await slow.greet()
        await slow.accepted()
        await server.heard.until(lambda: server.heard.links)
        link = server.heard.links[0]
        for _ in range(2_000):
            link.send(FunctionData(JOB, bytes(10_000)))
        server.pool.flush()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(link.room)
            await trio.testing.wait_all_tasks_blocked(0.05)
            link.close(CloseCode.NORMAL, "enough")


async def test_a_bulk_connection_that_is_refused_ends_the_session_with_that_evidence(nodes) -> None:
    a, b = await nodes.pair()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        a.pool.link(b.id).address = f"127.0.0.1:{closed.getsockname()[1]}"
    a.pool.link(b.id).send(large(MIB))
    a.pool.flush()
    await a.heard.until(lambda: a.heard.downs)

    assert "nobody listens" in a.heard.downs[0][1]
    assert a.heard.downs[0][2]


async def test_a_peer_that_never_reads_is_cut_off(nodes) -> None:
    server = await nodes.start(NetConfig(queue_high_bytes=MIB, queue_bytes_max=16 * MIB))
    async with nodes.peer_of(server) as peer:
        await peer.greet()
        await peer.accepted()
        await server.heard.until(lambda: server.heard.links)
        for _ in range(4_000):
            server.heard.links[0].send(FunctionData(JOB, bytes(10_000)))
            server.pool.flush()
        await server.heard.until(lambda: server.heard.downs)

    assert "does not read" in server.heard.downs[0][1]


async def test_a_peer_that_hangs_up_while_this_node_goes_is_not_called_back(nodes) -> None:
    """Membership asks for a new session whenever one ends; a node that was stopping crashed at that."""
    dialler, server = await nodes.pair()
    went_down = dialler.heard.link_down

    def call_back(link, reason, refused) -> None:
        went_down(link, reason, refused)
        dialler.pool.start_dial(server.id, [server.address])
        dialler.pool.dial_seed(server.address)

    dialler.heard.link_down = call_back
    dialler.pool.stop()
    await dialler.heard.until(lambda: dialler.heard.downs)
    await trio.testing.wait_all_tasks_blocked()

    assert not dialler.pool.links()
