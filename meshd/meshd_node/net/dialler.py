"""Dialling: an address after the other, TLS, hellos, and the server's word that this is the session."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from meshd_node.errors import ConfigError
from meshd_node.log import log
from meshd_node.net.connection import Connection
from meshd_node.net.errors import ConnectionLost, PeerClosed, WrongNode, close_for
from meshd_node.net.hellos import Greeting, receive, receive_hello, send_hello
from meshd_node.net.link import End, Link
from meshd_node.net.sockets import connect
from meshd_node.net.tls import ALPN
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import CertificateRefused, CloseCode, RemoteProtocolError, UnexpectedMessage
from meshd_protocol.ids import NodeId, to_text
from meshd_protocol.messages.peer import Close, Lane, Ping, Pong

if TYPE_CHECKING:
    from meshd_node.net.pool import Pool


class Dialler:
    """The dialling side of a pool."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._running: set[NodeId | str] = set()
        self._limit = trio.CapacityLimiter(pool.config.dials_max)
        self._reach_limit = trio.CapacityLimiter(pool.config.reaches_max)

    def start(self, nursery: trio.Nursery, node: NodeId | None, addresses: tuple[str, ...]) -> None:
        """Dial in the background, unless the same dial runs."""
        what = addresses[0] if node is None else node
        if what not in self._running:
            self._running.add(what)
            nursery.start_soon(self._dial, what, node, addresses)

    async def _dial(self, what: NodeId | str, node: NodeId | None, addresses: tuple[str, ...]) -> None:
        failures: list[ConnectionLost] = []
        try:
            async with self._limit:
                for address in addresses:
                    failure = await self._try(address, partial(self._reach, address, node))
                    if failure is None or (node is not None and self._pool.link(node) is not None):
                        return
                    failures.append(failure)
        finally:
            self._running.discard(what)
        self._report(node, addresses, failures)

    async def reach(self, node: NodeId, address: str) -> ConnectionLost | None:
        """Find out whether `node` answers at `address`, and hang up: why it does not, or None."""
        async with self._reach_limit:
            return await self._try(address, partial(self._greet, address, node))

    async def _try(self, address: str, attempt: Callable[[], Awaitable[None]]) -> ConnectionLost | None:
        timeout_s = self._pool.config.dial_timeout_ms / 1_000
        try:
            with trio.move_on_after(timeout_s) as scope:
                await attempt()
        except ConnectionLost as error:
            return ConnectionLost(f"{address}: {error}", refused=error.refused)
        except PeerClosed as closed:
            self._pool.closed_by_peer(closed)
            return ConnectionLost(f"{address}: {closed}")
        except (RemoteProtocolError, ConfigError) as error:
            return ConnectionLost(f"{address}: {error}")
        if scope.cancelled_caught:
            return ConnectionLost(f"{address}: no answer within {timeout_s:g} s", silent=True)
        return None

    def _report(self, node: NodeId | None, addresses: tuple[str, ...], failures: list[ConnectionLost]) -> None:
        reason = "; ".join(map(str, failures)) or "no address is known"
        refused = bool(failures) and all(failure.refused for failure in failures)
        log.debug("dial_failed", node=node and to_text(node), reason=reason)
        self._pool.handler.dial_failed(node, addresses[-1] if addresses else "", reason, refused)
        self._pool.flush()

    # --- control ------------------------------------------------------------------------------------------------

    async def _reach(self, address: str, node: NodeId | None) -> None:
        """Return when there is a session with whoever answers at `address`: this connection's or another."""
        connection = await self._connect(address)
        kept = False
        try:
            greeting = await self._receive_hello(connection, node)
            kept = await self._ask(connection, greeting, address)
        finally:
            if not kept:
                connection.close()

    async def _ask(self, connection: Connection, greeting: Greeting[Certified], address: str) -> bool:
        """Ask to be accepted; return whether this connection is the session."""
        pool, peer = self._pool, greeting.who
        with trio.CancelScope() as scope:
            if not pool.sessions.begin_waiting(peer.node, scope):
                await pool.sessions.arrival(peer.node)
                return False
            try:
                await send_hello(connection, pool.identity.credentials, Lane.CONTROL, pool.clocks.wall())
                first = await receive(connection)
            except PeerClosed as closed:
                if closed.code is not CloseCode.REPLACED:
                    raise
                # Its dial to us is to be the session; if that fails, so does this.
                await pool.sessions.arrival(peer.node)
                return False
            finally:
                pool.sessions.end_waiting(peer.node, scope)
            if not isinstance(first, Ping):
                raise UnexpectedMessage(f"a server accepts with a Ping, not with a {type(first).__name__}")
            connection.append(Pong())
            self._begin(connection, greeting, address)
            return True
        # Cancelled by `Sessions.add`: the peer's dial was accepted in the meantime.
        return False

    def _begin(self, connection: Connection, greeting: Greeting[Certified], address: str) -> None:
        pool = self._pool
        link = Link(pool, greeting.who, connection, session=pool.serial(), address=address, ahead_s=greeting.ahead_s)
        link.ping(pool.now())
        pool.begin(link, connection)

    # --- bulk ---------------------------------------------------------------------------------------------------

    async def dial_bulk(self, link: Link) -> None:
        """Open the bulk connection of a link that we dialled; the session ends if that fails."""
        assert link.address is not None, "only who dialled dials again"
        address = link.address
        failure = await self._try(address, partial(self._reach_bulk, link, address))
        if failure is not None:
            link.finish(End(f"no bulk connection: {failure}", CloseCode.NORMAL, failure.refused))

    async def _reach_bulk(self, link: Link, address: str) -> None:
        connection = await self._connect(address)
        kept = False
        try:
            await self._receive_hello(connection, link.peer.node)
            await send_hello(connection, self._pool.identity.credentials, Lane.BULK, self._pool.clocks.wall())
            self._pool.run_bulk(link, connection)
            kept = True
        finally:
            if not kept:
                connection.close()

    async def _greet(self, address: str, node: NodeId) -> None:
        connection = await self._connect(address)
        try:
            await self._receive_hello(connection, node)
            connection.append(Close(CloseCode.NORMAL, "this was only to see whether you can be dialled"))
            connection.flush()
        finally:
            connection.close()

    # --- both ---------------------------------------------------------------------------------------------------

    async def _connect(self, address: str) -> Connection:
        pool = self._pool
        sock = await connect(address, pool.config.silence_ms)
        return Connection(sock, pool.identity.client, pool.scratch, server_side=False)

    async def _receive_hello(self, connection: Connection, expected: NodeId | None) -> Greeting[Certified]:
        """Shake hands and verify who answers; tell a peer that it is refused, as far as it listens."""
        pool = self._pool
        await connection.handshake(ALPN)
        try:
            greeting = await receive_hello(connection, pool.identity.credentials, pool.clocks.wall())
            who = greeting.who
            if not isinstance(who, Certified):
                raise CertificateRefused("an invite does not serve")
            if who.node == pool.node:
                raise WrongNode("this address is this node's own")
            if expected is not None and who.node != expected:
                raise WrongNode(f"{to_text(who.node)} answers here, not {to_text(expected)}")
            pool.check_revoked(who)
        except RemoteProtocolError as fault:
            connection.append(close_for(fault))
            connection.flush()
            raise
        return Greeting(who, greeting.lane, greeting.ahead_s)
