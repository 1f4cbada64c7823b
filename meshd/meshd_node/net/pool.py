"""The pool of sessions: listens, dials, keeps at most one session with each peer, and keeps them alive."""

from collections.abc import Sequence
from typing import Final, NoReturn

import trio

from meshd_node.core.allowance import Allowance
from meshd_node.log import log
from meshd_node.net.acceptor import Acceptor
from meshd_node.net.config import Clocks, NetConfig
from meshd_node.net.connection import Connection, Scratch
from meshd_node.net.dialler import Dialler
from meshd_node.net.errors import ConnectionLost, PeerClosed, PeerRevoked
from meshd_node.net.handler import Handler
from meshd_node.net.identity import Identity
from meshd_node.net.link import End, Link
from meshd_node.net.revocations import NoRevocations, Revocations
from meshd_node.net.sessions import Sessions
from meshd_node.net.sockets import bound_address, listen
from meshd_node.net.throttle import Throttle
from meshd_node.net.tls import Credentials
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import CloseCode
from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId, to_text

# Looks at every link this many times in a ping interval: a silence ends that much late at most.
_TICKS: Final = 4


class Pool:
    """All connections of one node. `handler` is told what happens; everything else is asked here."""

    def __init__(
        self,
        handler: Handler,
        credentials: Credentials,
        config: NetConfig,
        clocks: Clocks,
        revocations: Revocations | None = None,
    ) -> None:
        """Raise `CertificateRefused` if the credentials prove nothing. Without `revocations` nobody is revoked."""
        self.handler = handler
        self.config = config
        self.clocks = clocks
        self._revocations = revocations or NoRevocations()
        self.identity = Identity(credentials, clocks.wall())
        self.sessions = Sessions(self.identity.certified.node)
        self.scratch = Scratch()
        self.talk = Allowance(config.talk_per_s, config.talk_burst)
        self.throttle = Throttle(clocks.monotonic)
        self._acceptor = Acceptor(self)
        self._dialler = Dialler(self)
        self._serials = 0
        self._dirty: list[Link] = []
        self._serving = trio.CancelScope()
        self._live: trio.Nursery | None = None
        self._services: trio.Nursery | None = None

    # --- for everybody ------------------------------------------------------------------------------------------

    @property
    def node(self) -> NodeId:
        """Who we are."""
        return self.identity.certified.node

    @property
    def bound(self) -> tuple[str, ...]:
        """The addresses that we listen on, with their real ports."""
        return tuple(bound_address(sock) for sock in self._acceptor.listeners)

    def listen(self, address: str) -> None:
        """Listen on `HOST:PORT` once `run` runs; port 0 is any. Raise `ListenFailed`."""
        self._acceptor.listeners += listen(address)

    def renew(self, credentials: Credentials) -> None:
        """Use these from the next connection on; sessions that are up stay. Raise `CertificateRefused`."""
        self.identity = Identity(credentials, self.clocks.wall())

    def limit_upload(self, bytes_per_s: float) -> None:
        """Send large messages no faster than that, all together; 0 is no bound."""
        self.throttle.limit(bytes_per_s)

    def link(self, node: NodeId) -> Link | None:
        """The session with a peer."""
        return self.sessions.get(node)

    def links(self) -> list[Link]:
        """All sessions that are up."""
        return [link for link in self.sessions if link.open]

    def start_dial(self, node: NodeId, addresses: Sequence[str]) -> None:
        """Try for a session with `node`, one address after the other, in the background.

        Ends in `link_up` or `dial_failed`. Nothing happens while there is a session or another dial to `node`, nor
        once this pool ends: peers that hang up meanwhile are not called back.
        """
        if self._services is not None and self.sessions.get(node) is None:
            self._dialler.start(self._services, node, tuple(addresses))

    def dial_seed(self, address: str) -> None:
        """Try for a session with whoever of our mesh answers at `address`. Nothing happens while that is tried."""
        if self._services is not None:
            self._dialler.start(self._services, None, (address,))

    async def reach(self, node: NodeId, address: str) -> ConnectionLost | None:
        """Find out whether `node` can be dialled at `address`, without a session: why not, or None."""
        return await self._dialler.reach(node, address)

    def drop_revoked(self) -> None:
        """End the sessions of all peers whose certificates are revoked by now; `link_down` follows."""
        for link in self.links():
            proof = self._revocations.against(link.peer)
            if proof is not None:
                fault = PeerRevoked(link.peer.node, proof)
                link.finish(End(str(fault), fault.close_code, proof=proof))

    def flush(self) -> None:
        """Send what was queued. Call it after sending from anywhere but the handler."""
        while self._dirty:
            links, self._dirty = self._dirty, []
            for link in links:
                if link.used:
                    link.used, link.spoken = False, True
                    self.sessions.used(link)
                link.flush()

    def stop(self, reason: str = "this node goes away") -> None:
        """Stop listening and dialling, say goodbye to all; `run` returns within `linger_ms`."""
        self._serving.cancel()
        for link in self.sessions:
            link.close(CloseCode.GOING_AWAY, reason)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`, or until cancelled: then without a goodbye."""
        try:
            async with trio.open_nursery() as self._live:
                with self._serving:
                    await self._serve(task_status)
                self._acceptor.close()
        finally:
            self._acceptor.close()

    # --- for acceptor, dialler and links ------------------------------------------------------------------------

    def now(self) -> float:
        """Read the monotonic clock."""
        return self.clocks.monotonic()

    def check_revoked(self, peer: Certified) -> None:
        """Raise `PeerRevoked` for a peer whose certificate is revoked."""
        proof = self._revocations.against(peer)
        if proof is not None:
            raise PeerRevoked(peer.node, proof)

    def closed_by_peer(self, closed: PeerClosed) -> None:
        """A peer hung up, and said why: look at what it shows."""
        if closed.code is CloseCode.REVOKED and closed.proof is not None:
            self._revocations.shown(closed.proof)
            self.flush()

    def serial(self) -> int:
        """A number above all before it: of a session, or of a greeting."""
        self._serials += 1
        return self._serials

    def written(self, link: Link) -> None:
        """Remember that this link has something to flush."""
        self._dirty.append(link)

    def received(self, link: Link, batch: list[tuple[Message, int]]) -> None:
        """Hand a batch to the handler, then flush whatever it wrote."""
        try:
            if batch:
                link.spoken = True
                self.sessions.used(link)
                self.handler.messages(link, batch)
        finally:
            self.flush()

    def want_bulk(self, link: Link) -> None:
        """Dial the bulk connection of a link that we dialled."""
        assert self._live is not None, "there are links only while the pool runs"
        self._live.start_soon(self._dialler.dial_bulk, link)

    def begin(self, link: Link, control: Connection) -> None:
        """Let a session begin: whatever it replaces or displaces goes down first."""
        assert self._live is not None, "there are links only while the pool runs"
        old = self.sessions.known(link.peer.node)
        if old is not None:
            self._retire(old, End("the peer came back in a new session", CloseCode.REPLACED))
        self.sessions.add(link)
        for idle in self.sessions.surplus(self.config.links_max):
            self._retire(idle, End("the least recently used of too many links", CloseCode.NORMAL))
        self._live.start_soon(self._run_link, link, control)
        log.info("link_up", peer=to_text(link.peer.node), session=link.session, dialled=link.address)
        self.handler.link_up(link)
        self.flush()

    def run_bulk(self, link: Link, connection: Connection) -> None:
        """Give a link its bulk connection."""
        assert self._live is not None, "there are links only while the pool runs"
        self._live.start_soon(self._run_bulk, link, connection)

    # --- tasks --------------------------------------------------------------------------------------------------

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            self._services = nursery
            try:
                self._acceptor.start(nursery)
                task_status.started()
                await self._keep_alive()
            finally:
                # Before the nursery closes: links that end from now on ask for dials that are not made.
                self._services = None

    async def _run_link(self, link: Link, control: Connection) -> None:
        try:
            self._retire(link, await link.run())
            with trio.move_on_after(self.config.linger_ms / 1_000):
                await link.say_goodbye()
        except trio.Cancelled:
            self._retire(link, End("this node stops"))
            raise
        finally:
            control.close()

    async def _run_bulk(self, link: Link, connection: Connection) -> None:
        try:
            await link.run_bulk(connection)
        finally:
            connection.close()

    def _retire(self, link: Link, end: End) -> None:
        """Report the end of a session, once: the first end that it had."""
        link.finish(end)
        if self.sessions.remove(link):
            assert link.end is not None, "it was just finished"
            log.info("link_down", peer=to_text(link.peer.node), session=link.session, reason=link.end.reason)
            self.handler.link_down(link, link.end.reason, link.end.refused)
            self.flush()

    async def _keep_alive(self) -> NoReturn:
        tick_s = self.config.ping_interval_ms / 1_000 / _TICKS
        silence_s = self.config.silence_ms / 1_000
        looked_at = self.now()
        while True:
            await trio.sleep(tick_s)
            now = self.now()
            # After a sleep of the whole machine, or of this process, the silence was ours.
            overslept, looked_at = now - looked_at > silence_s / 2, now
            for link in self.sessions:
                if overslept:
                    link.heard_at = now
                elif now - link.heard_at > silence_s:
                    link.close(CloseCode.TIMEOUT, f"nothing was heard from the peer for {now - link.heard_at:.0f} s")
                elif self._idle(link, now):
                    link.close(CloseCode.NORMAL, "nobody needs it")
                link.ping(now)
            self.flush()

    def _idle(self, link: Link, now: float) -> bool:
        """Whether to hang up. A peer that dialled us decides that for itself."""
        if link.spoken:
            link.spoken, link.spoken_at = False, now
        idle = link.dialled and now - link.spoken_at > self.config.idle_ms / 1_000
        return idle and not self.handler.keeps(link)
