"""A mesh of certificates, and nodes that write down what their pool tells them."""

import random
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.net.config import NetConfig
from meshd_node.net.connection import Connection, Scratch
from meshd_node.net.hellos import receive_hello, send_hello
from meshd_node.net.link import Link
from meshd_node.net.pool import Pool
from meshd_node.net.revocations import Revocations
from meshd_node.net.sockets import connect
from meshd_node.net.tls import ALPN, Credentials, client_context
from meshd_protocol.certificates import Certified, Invited
from meshd_protocol.framing import Message
from meshd_protocol.ids import MeshId, NodeId, mesh_id, node_id
from meshd_protocol.issuing import Signer, issue_invite, issue_issuer, issue_node, key_id
from meshd_protocol.limits import FRAME_BYTES_MAX, MIB
from meshd_protocol.messages.peer import Lane, Ping, SignRequest
from meshd_protocol.names import InviteName, IssuerName, NodeName, Role


@dataclass(frozen=True)
class Clocks:
    monotonic: Callable[[], float] = trio.current_time
    wall: Callable[[], float] = time.time


class Mesh:
    """A root and an issuer that make credentials; all of it from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = random.Random(seed)
        self._root = self.new_key()
        self.root_key = self._root.public_key().public_bytes_raw()
        self.mesh: MeshId = mesh_id(self.root_key)
        key = self.new_key()
        node = node_id(key.public_key().public_bytes_raw(), bytes(16))
        lab = frozenset({"lab"})
        name = IssuerName(self.mesh, node, lab, frozenset({Role.WORKER, Role.SUBMITTER}), lab)
        certificate = issue_issuer(self._root, key.public_key(), name, self._serial(), time.time())
        self._issuer = Signer.issuer(key, certificate)

    def new_key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._rng.randbytes(32))

    def node(self, *, by_root: bool = False, wall: float | None = None) -> Credentials:
        key, nonce = self.new_key(), self._rng.randbytes(16)
        public = key.public_key()
        node = node_id(public.public_bytes_raw(), nonce)
        name = NodeName(self.mesh, node, "lab", frozenset({Role.WORKER}), nonce)
        signer = Signer.root(self._root) if by_root else self._issuer
        leaf = issue_node(signer, public, name, self._serial(), time.time() if wall is None else wall)
        return Credentials(self.root_key, (leaf, *signer.chain), key)

    def invite(self) -> Credentials:
        key = self.new_key()
        public = key.public_key()
        name = InviteName(self.mesh, key_id(public.public_bytes_raw()), "lab", frozenset({Role.WORKER}), 1)
        leaf = issue_invite(self._issuer, public, name, self._serial(), time.time(), 3_600)
        return Credentials(self.root_key, (leaf, *self._issuer.chain), key)

    def _serial(self) -> int:
        return self._rng.getrandbits(120) + 1


@dataclass
class Recorder:
    """A handler that writes everything down. `until` waits for what a test expects."""

    story: list[tuple[str, object]] = field(default_factory=list)
    received: list[tuple[Message, int]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    downs: list[tuple[Link, str, bool]] = field(default_factory=list)
    failures: list[tuple[NodeId | None, str, str, bool]] = field(default_factory=list)
    on_messages: Callable[[Link, list[tuple[Message, int]]], None] = lambda link, batch: None
    on_invited: Callable[[Invited, SignRequest, Callable[[Message], None]], None] = lambda *_: None
    needed: bool = True
    changed: trio.Event = field(default_factory=trio.Event)

    def link_up(self, link: Link) -> None:
        self.links.append(link)
        self._write("up", link.session)

    def messages(self, link: Link, batch: list[tuple[Message, int]]) -> None:
        self.received += batch
        self.batches.append(len(batch))
        self._write("messages", link.session)
        self.on_messages(link, batch)

    def link_down(self, link: Link, reason: str, refused: bool) -> None:
        self.downs.append((link, reason, refused))
        self._write("down", link.session)

    def dial_failed(self, node: NodeId | None, address: str, reason: str, refused: bool) -> None:
        self.failures.append((node, address, reason, refused))
        self._write("failed", node)

    def keeps(self, link: Link) -> bool:
        return self.needed

    def invited(self, invited: Invited, message: SignRequest, reply: Callable[[Message], None]) -> None:
        self._write("invited", invited.serial)
        self.on_invited(invited, message, reply)

    async def until(self, holds: Callable[[], object]) -> None:
        while not holds():
            self.changed = trio.Event()
            await self.changed.wait()

    def _write(self, what: str, which: object) -> None:
        self.story.append((what, which))
        self.changed.set()


@dataclass
class Node:
    pool: Pool
    heard: Recorder
    credentials: Credentials

    @property
    def id(self) -> NodeId:
        return self.pool.node

    @property
    def address(self) -> str:
        return self.pool.bound[0]


class Peer:
    """A peer that a test plays by hand: real TLS, real hellos, and after that whatever bytes it likes."""

    def __init__(self, connection: Connection, credentials: Credentials) -> None:
        self.connection = connection
        self.credentials = credentials

    async def greet(self, lane: Lane = Lane.CONTROL) -> Certified | Invited:
        await self.connection.handshake(ALPN)
        server = (await receive_hello(self.connection, self.credentials, time.time())).who
        await send_hello(self.connection, self.credentials, lane, time.time())
        self.connection.trust(frame_bytes_max=FRAME_BYTES_MAX, read_bytes=MIB)
        return server

    async def accepted(self) -> None:
        frame = await self.connection.next_frame()
        assert frame.kind == Ping.KIND

    async def send(self, data: bytes) -> None:
        self.connection.queue += data
        await self.connection.drain()


class Nodes:
    """Starts nodes on loopback."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.mesh = Mesh()
        self._nursery = nursery

    async def start(
        self,
        config: NetConfig | None = None,
        credentials: Credentials | None = None,
        *,
        clocks: Clocks | None = None,
        revocations: Revocations | None = None,
    ) -> Node:
        heard = Recorder()
        credentials = credentials or self.mesh.node()
        pool = Pool(heard, credentials, config or NetConfig(), clocks or Clocks(), revocations)
        pool.listen("127.0.0.1:0")
        await self._nursery.start(pool.run)
        return Node(pool, heard, credentials)

    async def pair(self, config: NetConfig | None = None) -> tuple[Node, Node]:
        """Two nodes with a session that the first has dialled."""
        dialler, server = await self.start(config), await self.start(config)
        await self.meet(dialler, server)
        return dialler, server

    async def meet(self, dialler: Node, server: Node) -> None:
        dialler.pool.start_dial(server.id, [server.address])
        await dialler.heard.until(lambda: dialler.pool.link(server.id))
        await server.heard.until(lambda: server.pool.link(dialler.id))

    @asynccontextmanager
    async def peer_of(
        self, server: Node, credentials: Credentials | None = None, context: ssl.SSLContext | None = None
    ) -> AsyncIterator[Peer]:
        credentials = credentials or self.mesh.node()
        sock = await connect(server.address, 60_000)
        connection = Connection(sock, context or client_context(credentials), Scratch(), server_side=False)
        try:
            yield Peer(connection, credentials)
        finally:
            connection.close()


@pytest.fixture
def nodes(nursery: trio.Nursery) -> Nodes:
    return Nodes(nursery)
