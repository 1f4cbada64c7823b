"""The first frames of both sides: version, lane, and who it is that TLS let in. Spec: 08-peer.md, section 2."""

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from meshd_node.net.connection import Connection
from meshd_node.net.errors import ClocksDiffer, NoCommonVersion, PeerClosed
from meshd_node.net.tls import Credentials
from meshd_protocol import PROTOCOL_VERSION
from meshd_protocol.certificates import Certified, Invited, verify_invite_chain, verify_node_chain
from meshd_protocol.errors import CertificateRefused, UnexpectedMessage
from meshd_protocol.framing import Message
from meshd_protocol.limits import CLOCK_SKEW_S
from meshd_protocol.messages.peer import PEER, Close, Hello, Lane

VERSIONS: Final = (PROTOCOL_VERSION,)

WhoT = TypeVar("WhoT", bound=Certified | Invited)


@dataclass(frozen=True, slots=True)
class Greeting(Generic[WhoT]):
    """What a verified hello proves; `ahead_s` is how far the peer's clock is before ours, the hello's way included."""

    who: WhoT
    lane: Lane
    ahead_s: float


async def receive(connection: Connection) -> Message:
    """Wait for one message of a peer that has no session yet; raise `PeerClosed` if it hangs up instead."""
    message = PEER.decode(await connection.next_frame())
    if isinstance(message, Close):
        raise PeerClosed(message.code, message.reason, message.proof)
    return message


async def receive_hello(connection: Connection, credentials: Credentials, wall: float) -> Greeting[Certified | Invited]:
    """Wait for the peer's hello and verify it together with the certificate that TLS was shown."""
    hello = await receive(connection)
    if not isinstance(hello, Hello):
        raise UnexpectedMessage(f"the first message is a Hello, not a {type(hello).__name__}")
    if not set(VERSIONS) & set(hello.versions):
        raise NoCommonVersion(f"the peer speaks the versions {hello.versions[:4]}, this node {list(VERSIONS)}")
    skew_s = hello.wall_ms / 1_000 - wall
    try:
        who = _verify(connection, credentials, hello.issuer, wall)
    except CertificateRefused as error:
        if abs(skew_s) > CLOCK_SKEW_S:
            raise ClocksDiffer(f"{error}; {_skew_text(skew_s)}") from error
        raise
    if abs(skew_s) > CLOCK_SKEW_S:
        raise ClocksDiffer(_skew_text(skew_s))
    return Greeting(who, hello.lane, skew_s)


async def send_hello(connection: Connection, credentials: Credentials, lane: Lane, wall: float) -> None:
    """Send our own. A server, which speaks first, does not know the lane yet and says CONTROL."""
    connection.append(Hello(list(VERSIONS), lane, credentials.issuer, max(0, int(wall * 1_000))))
    await connection.drain()


def _verify(connection: Connection, credentials: Credentials, issuer: bytes, wall: float) -> Certified | Invited:
    chain = [connection.peer_certificate(), *([issuer] if issuer else [])]
    # Which of the two it claims to be decides only how it is verified.
    if any("/invite/" in uri for uri in connection.peer_uris()):
        return verify_invite_chain(credentials.root_key, chain, wall)
    return verify_node_chain(credentials.root_key, chain, wall)


def _skew_text(skew_s: float) -> str:
    side = "ahead of" if skew_s > 0 else "behind"
    return (
        f"the peer's clock is {abs(skew_s):.0f} s {side} this node's, {CLOCK_SKEW_S} s are allowed: set the wrong one"
    )
