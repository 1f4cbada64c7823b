"""Whoever connects: TLS, hellos, then a session, a bulk lane, or the one request of an invite's holder."""

import errno
import socket
from typing import TYPE_CHECKING, Final

import trio

from meshd_node.log import log
from meshd_node.net.connection import Connection
from meshd_node.net.errors import ConnectionLost, PeerClosed, Superseded, WrongNode, close_for
from meshd_node.net.half_open import HalfOpen
from meshd_node.net.hellos import Greeting, receive, receive_hello, send_hello
from meshd_node.net.link import Link
from meshd_node.net.sockets import watch
from meshd_node.net.tls import ALPN
from meshd_protocol.certificates import Certified, Invited
from meshd_protocol.errors import CloseCode, RemoteProtocolError, UnexpectedMessage
from meshd_protocol.framing import Message
from meshd_protocol.limits import REASON_CHARS_MAX
from meshd_protocol.messages.peer import Close, Lane, SignRequest

if TYPE_CHECKING:
    from meshd_node.net.pool import Pool

# Out of descriptors or memory: it passes when others hang up, so wait instead of ending or spinning.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_EXHAUSTED_PAUSE_S: Final = 0.1


class Acceptor:
    """The listening side of a pool."""

    def __init__(self, pool: "Pool") -> None:
        self.listeners: list[socket.socket] = []
        self._pool = pool
        self._half_open = HalfOpen(pool.config.half_open_max, pool.config.handshake_timeout_ms / 1_000)
        self._invites = 0

    def start(self, nursery: trio.Nursery) -> None:
        """Accept in the background."""
        for listener in self.listeners:
            nursery.start_soon(self._accept, listener, nursery)

    def close(self) -> None:
        """Close the listening sockets."""
        for listener in self.listeners:
            listener.close()
        self.listeners = []

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                log.warning("can not accept connections", reason=error.strerror)
                await trio.sleep(_EXHAUSTED_PAUSE_S)
                continue
            nursery.start_soon(self._admit, sock)

    async def _admit(self, sock: socket.socket) -> None:
        pool = self._pool
        watch(sock, pool.config.silence_ms)
        connection = Connection(sock, pool.identity.server, pool.scratch, server_side=True)
        kept = False
        try:
            kept = await self._serve(connection)
        except RemoteProtocolError as fault:
            await self._close(connection, close_for(fault))
        except PeerClosed as closed:
            pool.closed_by_peer(closed)
            await self._ended(connection, str(closed))
        except ConnectionLost as gone:
            await self._ended(connection, str(gone))
        finally:
            if not kept:
                connection.close()

    async def _serve(self, connection: Connection) -> bool:
        """Return whether the connection is the pool's now."""
        greeted, greeting = 0, None
        with self._half_open.place():
            greeted, greeting = await self._greet(connection)
        match greeting:
            case Greeting(Invited() as invited):
                await self._serve_invite(connection, invited)
                return False
            case Greeting(Certified() as peer, Lane.CONTROL, ahead_s):
                self._begin(connection, peer, ahead_s, greeted)
                return True
            case Greeting(Certified() as peer, Lane.BULK):
                self._attach(connection, peer)
                return True
        return False

    async def _greet(self, connection: Connection) -> tuple[int, Greeting[Certified | Invited]]:
        pool, credentials = self._pool, self._pool.identity.credentials
        await connection.handshake(ALPN)
        # Before the hello leaves: what begins later may have crossed the answer to it.
        greeted = pool.serial()
        await send_hello(connection, credentials, Lane.CONTROL, pool.clocks.wall())
        return greeted, await receive_hello(connection, credentials, pool.clocks.wall())

    def _begin(self, connection: Connection, peer: Certified, ahead_s: float, greeted: int) -> None:
        pool = self._pool
        if peer.node == pool.node:
            raise WrongNode("this address is the dialling node's own")
        pool.check_revoked(peer)
        if not pool.sessions.accepts(peer.node, greeted):
            raise Superseded("another connection is the session of these two nodes")
        link = Link(pool, peer, connection, session=pool.serial(), address=None, ahead_s=ahead_s)
        # It is also how the dialler learns that it was accepted.
        link.ping(pool.now())
        pool.begin(link, connection)

    def _attach(self, connection: Connection, peer: Certified) -> None:
        self._pool.check_revoked(peer)
        link = self._pool.sessions.get(peer.node)
        if link is None or link.dialled or link.has_bulk:
            raise UnexpectedMessage("a bulk connection belongs to a session that its side has dialled, one to each")
        self._pool.run_bulk(link, connection)

    # --- invites ------------------------------------------------------------------------------------------------

    async def _serve_invite(self, connection: Connection, invited: Invited) -> None:
        config = self._pool.config
        if self._invites >= config.invites_max:
            await self._refuse(connection, CloseCode.GOING_AWAY, "too many nodes join at once: try again in a minute")
            return
        self._invites += 1
        try:
            with trio.move_on_after(config.invite_timeout_ms / 1_000) as scope:
                await self._answer_invite(connection, invited)
            if scope.cancelled_caught:
                await self._refuse(connection, CloseCode.TIMEOUT, "the request was not answered in time: try again")
        finally:
            self._invites -= 1

    async def _answer_invite(self, connection: Connection, invited: Invited) -> None:
        request = await receive(connection)
        if not isinstance(request, SignRequest):
            raise UnexpectedMessage(f"the holder of an invite may send a SignRequest, not a {type(request).__name__}")
        answered = trio.Event()
        answers: list[Message] = []

        def reply(message: Message) -> None:
            answers.append(message)
            answered.set()

        self._pool.handler.invited(invited, request, reply)
        self._pool.flush()
        await answered.wait()
        connection.append(answers[0])
        await self._refuse(connection, CloseCode.NORMAL, "that was all")

    # --- the end ------------------------------------------------------------------------------------------------

    async def _refuse(self, connection: Connection, code: CloseCode, reason: str) -> None:
        await self._close(connection, Close(code, reason[:REASON_CHARS_MAX]))

    async def _close(self, connection: Connection, close: Close) -> None:
        log.debug("inbound connection closed", code=close.code.name, reason=close.reason)
        connection.append(close)
        await self._linger(connection)

    async def _ended(self, connection: Connection, reason: str) -> None:
        log.debug("inbound connection ended", reason=reason)
        await self._linger(connection)

    async def _linger(self, connection: Connection) -> None:
        with trio.move_on_after(self._pool.config.linger_ms / 1_000):
            await connection.finish()
