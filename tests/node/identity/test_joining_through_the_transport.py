"""The joiner against the real transport: at the issuer's own door, and through a seed that relays."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from meshd_node.errors import MeshdError
from meshd_node.identity.admission import Admission, Relay
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.inviting import Invitation, make_invite
from meshd_node.identity.issuer import Issuer
from meshd_node.identity.joining import join_mesh
from meshd_node.net.config import NetConfig
from meshd_node.net.link import Link
from meshd_node.net.pool import Pool
from meshd_protocol.certificates import Invited
from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.peer import SignGrant, SignRefusal, SignRequest


@dataclass(frozen=True)
class Clocks:
    monotonic: Callable[[], float] = trio.current_time
    wall: Callable[[], float] = time.time


class Door:
    """A handler that knows admission and nothing else."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.up: dict[NodeId, trio.Event] = {}
        self.links: dict[NodeId, Link] = {}
        self.waiting: list[Callable[[Message], None]] = []

    def link_up(self, link: Link) -> None:
        self.links[link.peer.node] = link
        self.up.setdefault(link.peer.node, trio.Event()).set()

    def messages(self, link: Link, batch: list[tuple[Message, int]]) -> None:
        for message, _ in batch:
            if isinstance(message, SignRequest):
                link.send(self.admission.answer_node(link.peer, message, time.time()))
            elif isinstance(message, SignGrant | SignRefusal):
                self.waiting.pop()(message)

    def link_down(self, link: Link, reason: str, refused: bool) -> None:
        self.links.pop(link.peer.node, None)

    def dial_failed(self, node: NodeId | None, address: str, reason: str, refused: bool) -> None:
        raise AssertionError(reason)

    def keeps(self, link: Link) -> bool:
        return True

    def invited(self, invited: Invited, message: SignRequest, reply: Callable[[Message], None]) -> None:
        answer = self.admission.answer(invited, message, time.time())
        if not isinstance(answer, Relay):
            reply(answer)
        elif answer.issuer in self.links:
            self.waiting.append(reply)
            self.links[answer.issuer].send(answer.request)
        else:
            reply(answer.unreachable())


@asynccontextmanager
async def running(folder: NodeFolder, entropy) -> AsyncIterator[tuple[Pool, Door]]:
    credentials = folder.identity().credentials
    door = Door(Admission(Issuer(folder, credentials.root_key, entropy)))
    pool = Pool(door, credentials, NetConfig(), Clocks())
    pool.listen("127.0.0.1:0")
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield pool, door
        nursery.cancel_scope.cancel()


async def join(path: Path, token: str, entropy) -> NodeFolder:
    folder = NodeFolder(path)
    await trio.to_thread.run_sync(join_mesh, folder, token, "laptop", time.time(), entropy)
    return folder


def invite(folder: NodeFolder, entropy, *seeds: str) -> str:
    return make_invite(folder, Invitation(seeds=seeds), time.time(), entropy)


async def test_token_joins_at_the_issuers_own_door_once(mesh: NodeFolder, entropy, tmp_path: Path) -> None:
    async with running(mesh, entropy) as (pool, _):
        token = invite(mesh, entropy, *pool.bound)

        assert (await join(tmp_path / "one", token, entropy)).is_node()
        with pytest.raises(MeshdError, match="used once already"):
            await join(tmp_path / "two", token, entropy)


async def test_token_joins_through_a_seed_that_relays(mesh: NodeFolder, entropy, tmp_path: Path) -> None:
    async with running(mesh, entropy) as (first, _):
        second_folder = await join(tmp_path / "second", invite(mesh, entropy, *first.bound), entropy)
        async with running(second_folder, entropy) as (second, door):
            token = invite(mesh, entropy, *second.bound)
            with pytest.raises(MeshdError, match="not reachable from here"):
                await join(tmp_path / "third", token, entropy)

            up = door.up.setdefault(first.node, trio.Event())
            second.start_dial(first.node, first.bound)
            await up.wait()
            third = await join(tmp_path / "third", token, entropy)

    assert third.identity().mesh == mesh.identity().mesh


async def test_new_node_opens_a_session_with_its_certificate(mesh: NodeFolder, entropy, tmp_path: Path) -> None:
    async with running(mesh, entropy) as (first, _):
        folder = await join(tmp_path / "second", invite(mesh, entropy, *first.bound), entropy)
        async with running(folder, entropy) as (second, door):
            up = door.up.setdefault(first.node, trio.Event())
            second.start_dial(first.node, first.bound)
            await up.wait()

            assert door.links[first.node].peer.operator == "lab"
