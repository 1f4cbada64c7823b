"""Whoever breaks the rules loses its connection, with a named reason; the daemon and its other links notice nothing."""

import ssl
import struct

import pytest
import trio

from meshd_node.net.config import NetConfig
from meshd_protocol.errors import CloseCode, NotAllowed
from meshd_protocol.ids import JobId
from meshd_protocol.limits import ASSEMBLY_BYTES_MAX, CONTROL_BYTES_MAX, HELLO_BYTES_MAX
from meshd_protocol.messages.peer import (
    PEER,
    Close,
    Credit,
    FunctionData,
    Hello,
    Lane,
    Ping,
    Pong,
    SignRequest,
    Slice,
    WantBulk,
)

JOB = JobId(bytes(20))


def frame(kind: int, body: bytes, stream: int = 0) -> bytes:
    return struct.pack(">IBI", len(body) + 5, kind, stream) + body


async def close_of(peer) -> Close:
    """The peer's last word."""
    while True:
        message = PEER.decode(await peer.connection.next_frame())
        if isinstance(message, Close):
            return message


FAULTS = {
    "oversized": (struct.pack(">I", CONTROL_BYTES_MAX), CloseCode.TOO_LARGE),
    "huge": (struct.pack(">I", 0xFFFFFFFF), CloseCode.TOO_LARGE),
    "too short for a header": (struct.pack(">I", 1), CloseCode.PROTOCOL),
    "unknown kind": (frame(0xEE, b"\x90"), CloseCode.PROTOCOL),
    "another channel's kind": (frame(0x40, b"\x90"), CloseCode.PROTOCOL),
    "not MessagePack": (frame(0x36, b"\xc1\xff\xff"), CloseCode.PROTOCOL),
    "out of bounds": (frame(0x36, b"\x92\xff\x00"), CloseCode.PROTOCOL),
    "a second hello": (PEER.encode(Hello([1], Lane.CONTROL, b"", 0)), CloseCode.PROTOCOL),
    "a slice on control": (PEER.encode(Slice(0x31, 5, 0, b"x")), CloseCode.PROTOCOL),
    "unasked pong": (PEER.encode(Pong()) * 2, CloseCode.PROTOCOL),
    "bulk wanted by the dialler": (PEER.encode(WantBulk()), CloseCode.PROTOCOL),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_ends_its_link_and_no_other(nodes, fault: str) -> None:
    data, code = FAULTS[fault]
    good, server = await nodes.pair()
    async with nodes.peer_of(server) as peer:
        await peer.greet()
        await peer.accepted()
        await peer.send(PEER.encode(Credit(1, 1)) + data)

        close = await close_of(peer)
        assert close.code is code
        await server.heard.until(lambda: server.heard.downs)

    assert server.heard.downs[0][1] == close.reason
    assert server.heard.received == [(Credit(1, 1), 0)], "what came before the fault counts"
    good.pool.link(server.id).send(Credit(2, 2))
    good.pool.flush()
    await server.heard.until(lambda: len(server.heard.received) == 2)


BULK_FAULTS = {
    "small message": PEER.encode(Credit(1, 1)),
    "hole": PEER.encode(Slice(0x31, 10, 0, b"abc")) + PEER.encode(Slice(0x31, 10, 4, b"d")),
    "no beginning": PEER.encode(Slice(0x31, 10, 4, b"d")),
    "other total": PEER.encode(Slice(0x31, 10, 0, b"abc")) + PEER.encode(Slice(0x31, 11, 3, b"d")),
    "beyond total": PEER.encode(Slice(0x31, 2, 0, b"abc")),
    "begun twice": PEER.encode(Slice(0x31, 10, 0, b"abc")) * 2,
    "a ping in slices": PEER.encode(Slice(Ping.KIND, 1, 0, b"\x90")),
    "garbage in slices": PEER.encode(Slice(0x31, 3, 0, b"\xff\xff\xff")),
    "too much at once": b"".join(
        PEER.encode(Slice(0x31, ASSEMBLY_BYTES_MAX // 2, 0, b"x"), stream) for stream in range(3)
    ),
    "too many at once": b"".join(PEER.encode(Slice(0x31, 2, 0, b"x"), stream) for stream in range(100)),
}


@pytest.mark.parametrize("fault", BULK_FAULTS)
async def test_a_fault_on_bulk_ends_the_session(nodes, fault: str) -> None:
    server = await nodes.start()
    credentials = nodes.mesh.node()
    async with nodes.peer_of(server, credentials) as control, nodes.peer_of(server, credentials) as bulk:
        await control.greet()
        await control.accepted()
        await bulk.greet(Lane.BULK)
        await bulk.send(BULK_FAULTS[fault])

        close = await close_of(control)
        await server.heard.until(lambda: server.heard.downs)

    assert close.code in {CloseCode.PROTOCOL, CloseCode.TOO_LARGE}
    assert server.heard.received == []


async def test_interleaved_large_messages_of_a_peer_are_told_apart_by_stream(nodes) -> None:
    server = await nodes.start()
    credentials = nodes.mesh.node()
    first, second = (PEER.encode(FunctionData(JOB, bytes([mark]) * 100))[9:] for mark in (1, 2))
    async with nodes.peer_of(server, credentials) as control, nodes.peer_of(server, credentials) as bulk:
        await control.greet()
        await control.accepted()
        await bulk.greet(Lane.BULK)
        for offset in range(0, len(first), 50):
            for stream, body in ((1, first), (2, second)):
                part = Slice(FunctionData.KIND, len(body), offset, body[offset : offset + 50])
                await bulk.send(PEER.encode(part, stream))
        await server.heard.until(lambda: len(server.heard.received) == 2)

    assert [stream for _, stream in server.heard.received] == [1, 2]


async def test_a_bulk_connection_without_a_session_is_refused(nodes) -> None:
    server = await nodes.start()
    async with nodes.peer_of(server) as peer:
        await peer.greet(Lane.BULK)
        assert (await close_of(peer)).code is CloseCode.PROTOCOL
    assert server.heard.story == []


async def test_a_stream_that_stops_inside_a_frame_ends_the_link(nodes) -> None:
    server = await nodes.start()
    async with nodes.peer_of(server) as peer:
        await peer.greet()
        await peer.accepted()
        await peer.send(frame(0x36, b"\x92\x01\x01")[:-1])
    await server.heard.until(lambda: server.heard.downs)

    assert server.heard.downs[0][1] == "the peer hung up inside a frame"
    assert server.heard.received == []


async def test_a_hello_too_large_is_refused_before_its_body(nodes) -> None:
    server = await nodes.start()
    async with nodes.peer_of(server) as peer:
        await peer.connection.handshake("meshd/1")
        await peer.send(struct.pack(">I", HELLO_BYTES_MAX))
        assert (await close_of(peer)).code is CloseCode.TOO_LARGE


@pytest.mark.parametrize(
    ("hello", "code", "reason"),
    [
        (lambda issuer, ms: Hello([99], Lane.CONTROL, issuer, ms), CloseCode.VERSION, "versions"),
        (lambda issuer, ms: Hello([1], Lane.CONTROL, b"", ms), CloseCode.NOT_ALLOWED, "not signed"),
        (lambda issuer, ms: Hello([1], Lane.CONTROL, b"rubbish", ms), CloseCode.NOT_ALLOWED, "not a certificate"),
        (lambda issuer, ms: Hello([1], Lane.CONTROL, issuer, ms + 500_000), CloseCode.NOT_ALLOWED, "500 s ahead"),
        (lambda issuer, ms: Ping(), CloseCode.PROTOCOL, "first message"),
    ],
)
async def test_a_hello_that_proves_nothing_is_answered_with_the_reason(nodes, hello, code, reason) -> None:
    server = await nodes.start()
    async with nodes.peer_of(server) as peer:
        await peer.connection.handshake("meshd/1")
        wall_ms = int(server.pool.clocks.wall() * 1_000)
        await peer.send(PEER.encode(hello(peer.credentials.issuer, wall_ms)))
        close = await close_of(peer)

    assert close.code is code
    assert reason in close.reason
    assert server.heard.story == []


def strangers(nodes) -> dict[str, ssl.SSLContext]:
    from meshd_node.net.tls import client_context

    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    bare.set_alpn_protocols(["meshd/1"])
    foreign = client_context(type(nodes.mesh)(seed=99).node())
    foreign.verify_mode = ssl.CERT_NONE
    return {"no certificate": bare, "another mesh's certificate": foreign}


@pytest.mark.parametrize("who", ["no certificate", "another mesh's certificate"])
async def test_a_stranger_gets_an_alert_and_never_a_byte(nodes, who: str) -> None:
    """Not even the versions we speak: a stranger learns that something speaks TLS, and nothing else."""
    server = await nodes.start()
    host, port = server.address.split(":")
    stream = trio.SSLStream(await trio.open_tcp_stream(host, int(port)), strangers(nodes)[who])
    # With TLS 1.3 a client's handshake is over before the server has seen its certificate.
    await stream.do_handshake()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.receive_some(1)
    assert "ALERT" in str(caught.value.__cause__)
    await trio.aclose_forcefully(stream)
    assert server.heard.story == []


async def test_a_peer_of_another_protocol_is_hung_up_on(nodes) -> None:
    from meshd_node.net.tls import client_context

    server = await nodes.start()
    credentials = nodes.mesh.node()
    context = client_context(credentials)
    context.set_alpn_protocols(["h2"])
    host, port = server.address.split(":")
    stream = trio.SSLStream(await trio.open_tcp_stream(host, int(port)), context, https_compatible=True)
    await stream.do_handshake()
    assert await stream.receive_some(100) == b""
    await trio.aclose_forcefully(stream)


async def test_plain_text_on_the_port_harms_nobody(nodes) -> None:
    server = await nodes.start()
    host, port = server.address.split(":")
    stream = await trio.open_tcp_stream(host, int(port))
    await stream.send_all(b"GET / HTTP/1.1\r\n\r\n" * 100)
    answer = b"".join([part async for part in stream])
    await stream.aclose()

    assert len(answer) < 100, "an alert at most"
    a = await nodes.start()
    await nodes.meet(a, server)


async def test_the_handlers_objection_is_told_to_the_peer(nodes) -> None:
    a, b = await nodes.pair()

    def object_to(link: object, batch: object) -> None:
        raise NotAllowed("you are not a submitter")

    b.heard.on_messages = object_to
    a.pool.link(b.id).send(Credit(1, 0))
    a.pool.flush()
    await a.heard.until(lambda: a.heard.downs)

    assert "NOT_ALLOWED" in a.heard.downs[0][1]
    assert "you are not a submitter" in a.heard.downs[0][1]


async def test_strangers_that_say_nothing_lose_their_places_to_newcomers(nodes) -> None:
    server = await nodes.start(NetConfig(half_open_max=4))
    host, port = server.address.split(":")
    idle = [await trio.open_tcp_stream(host, int(port)) for _ in range(8)]

    a = await nodes.start()
    await nodes.meet(a, server)

    for stream in idle[:4]:
        assert await stream.receive_some(1) == b""
    for stream in idle:
        await stream.aclose()


async def test_a_handshake_takes_ten_seconds_at_most(nodes, autojump_clock) -> None:
    server = await nodes.start()
    host, port = server.address.split(":")
    stream = await trio.open_tcp_stream(host, int(port))
    begun = trio.current_time()
    assert await stream.receive_some(1) == b""
    await stream.aclose()

    assert trio.current_time() - begun < 11


# --- invites ------------------------------------------------------------------------------------------------------


async def test_the_holder_of_an_invite_hands_in_one_request_and_gets_one_answer(nodes) -> None:
    server = await nodes.start()
    server.heard.on_invited = lambda invited, request, reply: reply(SignRequest(request.request[::-1]))
    async with nodes.peer_of(server, nodes.mesh.invite()) as peer:
        await peer.greet()
        await peer.send(PEER.encode(SignRequest(b"abc")))
        answer = PEER.decode(await peer.connection.next_frame())
        close = await close_of(peer)

    assert answer == SignRequest(b"cba")
    assert close.code is CloseCode.NORMAL
    assert [what for what, _ in server.heard.story] == ["invited"]


async def test_the_holder_of_an_invite_can_do_nothing_else(nodes) -> None:
    server = await nodes.start()
    async with nodes.peer_of(server, nodes.mesh.invite()) as peer:
        await peer.greet()
        await peer.send(PEER.encode(Credit(1, 1)))
        close = await close_of(peer)

    assert close.code is CloseCode.PROTOCOL
    assert server.heard.story == []


async def test_an_unanswered_request_ends_in_time(nodes, autojump_clock) -> None:
    server = await nodes.start()
    async with nodes.peer_of(server, nodes.mesh.invite()) as peer:
        await peer.greet()
        await peer.send(PEER.encode(SignRequest(b"abc")))
        close = await close_of(peer)

    assert close.code is CloseCode.TIMEOUT


async def test_only_so_many_join_at_once(nodes) -> None:
    server = await nodes.start(NetConfig(invites_max=1))
    invite = nodes.mesh.invite()
    async with nodes.peer_of(server, invite) as first, nodes.peer_of(server, invite) as second:
        await first.greet()
        await first.send(PEER.encode(SignRequest(b"abc")))
        await server.heard.until(lambda: server.heard.story)
        await second.greet()
        close = await close_of(second)

    assert "try again" in close.reason
