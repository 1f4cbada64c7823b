"""Frames between two processes of one machine."""

import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from meshd_node.frame_socket import FrameSocket
from meshd_protocol.errors import FrameTooLarge, RemoteProtocolError, UnexpectedMessage, UnknownKind
from meshd_protocol.messages.worker import WORKER, Forget, Ready


@pytest.fixture
def ends() -> Iterator[tuple[FrameSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield FrameSocket(ours, WORKER), theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x00\x00\x00\x05\x99\x00\x00\x00\x00", UnknownKind),
        (b"\xff\xff\xff\xff", FrameTooLarge),
        (b"\x00\x00\x00\x01\x00", RemoteProtocolError),
    ],
)
async def test_what_the_other_side_broke_is_raised_as_itself_and_not_in_a_group(ends, data, error) -> None:
    """Wrapped in a group, the fault of one worker or program passed every handler and ended the daemon."""
    wire, other = ends
    other.send(data)

    with pytest.raises(error):
        await wire.run(lambda batch: None)


async def test_what_the_handler_raises_is_raised_as_itself(ends) -> None:
    wire, other = ends
    other.send(WORKER.encode(Ready(1, 1)))

    def refuse(batch: object) -> None:
        raise UnexpectedMessage("not now")

    with pytest.raises(UnexpectedMessage):
        await wire.run(refuse)


async def test_frames_before_a_fault_in_another_read_are_handled(ends) -> None:
    wire, other = ends
    got: list[object] = []
    other.send(WORKER.encode(Forget([1]), 7))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.run, got.extend)
        await trio.testing.wait_all_tasks_blocked()
        other.close()

    assert got == [(Forget([1]), 7)]


async def test_what_the_kernel_does_not_take_leaves_when_the_other_side_reads(ends) -> None:
    wire, other = ends
    other.setblocking(False)
    size = 4 << 20
    wire.send(Forget([number % 4096 for number in range(4096)]))
    frame = wire.queued_bytes
    while wire.queued_bytes < size:
        wire.send(Forget([number % 4096 for number in range(4096)]))
    total = wire.queued_bytes
    read = 0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.run, lambda batch: None)
        wire.flush()
        assert wire.queued_bytes > frame
        while read < total:
            await trio.lowlevel.wait_readable(other)
            read += len(other.recv(1 << 20))
        await wire.drained(1)
        other.close()

    assert (read, wire.queued_bytes) == (total, 0)
