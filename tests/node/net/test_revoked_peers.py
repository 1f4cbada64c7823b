"""A peer with a revoked certificate is refused in both directions and at once, and is shown why."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio

from meshd_node.net.tls import Credentials
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import CloseCode
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import SignedRevocation
from meshd_protocol.messages.peer import Close, Lane

PROOF = SignedRevocation(b"whatever", bytes(64), b"")


@dataclass
class Listed:
    """Revocations as a test lists them. `shown_here`: what peers showed to this node."""

    nodes: set[NodeId] = field(default_factory=set)
    shown_here: list[SignedRevocation] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)

    def against(self, peer: Certified) -> SignedRevocation | None:
        return PROOF if peer.node in self.nodes else None

    def shown(self, revocation: SignedRevocation) -> None:
        self.shown_here.append(revocation)
        self.changed.set()

    async def until(self, holds: Callable[[], object]) -> None:
        while not holds():
            self.changed = trio.Event()
            await self.changed.wait()


@pytest.fixture
def listed() -> Listed:
    return Listed()


async def test_revoked_node_that_dials_is_refused_and_shown_the_proof(nodes, listed) -> None:
    told = Listed()
    server, dialler = await nodes.start(revocations=listed), await nodes.start(revocations=told)
    listed.nodes.add(dialler.id)

    dialler.pool.start_dial(server.id, [server.address])
    await dialler.heard.until(lambda: dialler.heard.failures)

    assert "REVOKED" in dialler.heard.failures[0][2]
    assert told.shown_here == [PROOF]
    assert server.heard.story == []


async def test_revoked_node_that_is_dialled_is_refused_and_shown_the_proof(nodes, listed) -> None:
    """Whoever dials verifies first, so that a revoked node can not lie in wait for those who look for it."""
    told = Listed()
    dialler, revoked = await nodes.start(revocations=listed), await nodes.start(revocations=told)
    listed.nodes.add(revoked.id)

    dialler.pool.start_dial(revoked.id, [revoked.address])
    await dialler.heard.until(lambda: dialler.heard.failures)
    await told.until(lambda: told.shown_here)

    assert "is revoked" in dialler.heard.failures[0][2]
    assert dialler.heard.failures[0][3] is False, "somebody listens there: it is no evidence of a death"
    assert told.shown_here == [PROOF]
    assert revoked.heard.story == []


async def test_session_ends_at_once_when_its_peer_is_revoked(nodes, listed) -> None:
    told = Listed()
    knows, revoked, bystander = (
        await nodes.start(revocations=listed),
        await nodes.start(revocations=told),
        await nodes.start(),
    )
    await nodes.meet(revoked, knows)
    await nodes.meet(bystander, knows)

    listed.nodes.add(revoked.id)
    knows.pool.drop_revoked()

    assert knows.pool.link(revoked.id) is None
    await revoked.heard.until(lambda: revoked.heard.downs)
    await told.until(lambda: told.shown_here)
    assert knows.pool.link(bystander.id) is not None


async def test_bulk_connection_of_a_revoked_node_is_refused(nodes, listed) -> None:
    """Its session may have begun a moment before."""
    server = await nodes.start(revocations=listed)
    credentials: Credentials = nodes.mesh.node()
    async with nodes.peer_of(server, credentials) as control, nodes.peer_of(server, credentials) as bulk:
        await control.greet()
        await control.accepted()
        listed.nodes.add(server.pool.links()[0].peer.node)
        await bulk.greet(Lane.BULK)

        closed = await bulk.connection.next_frame()

    assert closed.kind == Close.KIND


async def test_word_revoked_without_a_proof_is_shown_to_nobody(nodes) -> None:
    told = Listed()
    server = await nodes.start(revocations=told)
    async with nodes.peer_of(server) as peer:
        await peer.greet()
        await peer.accepted()
        peer.connection.append(Close(CloseCode.REVOKED, "believe me"))
        await peer.connection.drain()
        await server.heard.until(lambda: server.heard.downs)

    assert told.shown_here == []


async def test_proof_with_another_close_code_is_shown_to_nobody(nodes) -> None:
    told = Listed()
    server = await nodes.start(revocations=told)
    async with nodes.peer_of(server) as peer:
        await peer.greet()
        await peer.accepted()
        peer.connection.append(Close(CloseCode.NORMAL, "bye", PROOF))
        await peer.connection.drain()
        await server.heard.until(lambda: server.heard.downs)

    assert told.shown_here == []
