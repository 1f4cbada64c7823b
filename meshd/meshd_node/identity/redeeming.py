"""The exchange with one seed: TLS as the invite, hello, request, answer. Every wait and every byte is bounded."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from meshd_node.errors import ConfigError
from meshd_node.net.addresses import split_address
from meshd_node.net.tls import ALPN, Credentials, client_context
from meshd_protocol import PROTOCOL_VERSION
from meshd_protocol.certificates import verify_node_chain
from meshd_protocol.errors import CertificateRefused, RemoteProtocolError
from meshd_protocol.framing import FrameReader, Message
from meshd_protocol.limits import CLOCK_SKEW_S, HELLO_BYTES_MAX
from meshd_protocol.messages.peer import (
    PEER,
    Close,
    Hello,
    Lane,
    SignGrant,
    SignRefusal,
    SignRefusalCode,
    SignRequest,
)

_READ_BYTES = 16 << 10
# OpenSSL's verify codes for a certificate that begins later or has ended.
_CLOCK_CODES = frozenset({9, 10})
_MessageT = TypeVar("_MessageT", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinConfig:
    """How long one seed is waited for. A request may travel on to its issuer, for which seeds allow 10 s."""

    connect_s: float = 5.0
    exchange_s: float = 15.0


class SeedFailed(Exception):
    """This seed could not be asked; another one may be."""


class Refused(Exception):
    """The mesh's answer is no, and another seed's would be the same."""

    def __init__(self, code: SignRefusalCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def ask_seed(seed: str, credentials: Credentials, request: bytes, wall: float, config: JoinConfig) -> SignGrant:
    """Hand a request to one seed, once it has proved that it is a node of the mesh."""
    with _explained():
        context = client_context(credentials)
        with (
            socket.create_connection(split_address(seed), config.connect_s) as connection,
            # The handshake has the same time again, read by read: its messages are few and bounded by OpenSSL.
            context.wrap_socket(connection) as tls,
        ):
            exchange = _Exchange(tls, config.exchange_s)
            _check_hello(exchange.expect(Hello), exchange.peer_certificate(), credentials.root_key, wall)
            exchange.send(Hello([PROTOCOL_VERSION], Lane.CONTROL, credentials.issuer, int(wall * 1000)))
            exchange.send(SignRequest(request))
            return exchange.expect(SignGrant)


class _Exchange:
    """Frames over one TLS connection, all before one deadline."""

    def __init__(self, tls: ssl.SSLSocket, limit_s: float) -> None:
        if tls.selected_alpn_protocol() != ALPN:
            raise SeedFailed("something else than meshd answers there")
        self._tls = tls
        self._deadline = time.monotonic() + limit_s
        self._messages = self._read()

    def peer_certificate(self) -> bytes:
        """What the other side has proved to hold, not verified beyond TLS's own checks."""
        certificate = self._tls.getpeercert(binary_form=True)
        assert certificate is not None, "TLS requires a certificate"
        return certificate

    def send(self, message: Message) -> None:
        """Send one message."""
        self._await_less()
        self._tls.sendall(PEER.encode(message))

    def expect(self, kind: type[_MessageT]) -> _MessageT:
        """The next message, which must be of this kind, a refusal or a goodbye."""
        match next(self._messages):
            case Close(code, reason):
                raise SeedFailed(f"it hung up ({code.name.lower()}): {reason}")
            case SignRefusal(SignRefusalCode.ISSUER_UNREACHABLE, reason):
                raise SeedFailed(reason)
            case SignRefusal(code, reason):
                raise Refused(code, reason)
            case message if isinstance(message, kind):
                return message
            case message:
                raise SeedFailed(f"it broke the protocol: it sent a {type(message).__name__}")

    def _read(self) -> Iterator[Message]:
        reader = FrameReader(HELLO_BYTES_MAX)
        while True:
            self._await_less()
            data = self._tls.recv(_READ_BYTES)
            if not data:
                raise SeedFailed("it hung up without a word")
            reader.feed(data)
            for frame in reader.frames():
                yield PEER.decode(frame)

    def _await_less(self) -> None:
        # A timeout for each read alone would let a seed that drips bytes hold us for ever.
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._tls.settimeout(left)


def _check_hello(hello: Hello, certificate: bytes, root_key: bytes, wall: float) -> None:
    behind = hello.wall_ms / 1000 - wall
    if abs(behind) > CLOCK_SKEW_S:
        way = "behind" if behind > 0 else "ahead of"
        raise SeedFailed(f"this machine's clock is {abs(behind):.0f} s {way} the seed's: set the clocks")
    if PROTOCOL_VERSION not in hello.versions:
        raise SeedFailed(f"it speaks versions {hello.versions} of the protocol, we speak {PROTOCOL_VERSION}")
    chain = (certificate, hello.issuer) if hello.issuer else (certificate,)
    try:
        verify_node_chain(root_key, chain, wall)
    except CertificateRefused as error:
        raise SeedFailed(f"it is not a node of this mesh: {error}") from error


@contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever a connection raises into `SeedFailed`, in words for the person who joins."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _CLOCK_CODES:
            raise SeedFailed("its certificate is out of date by this machine's clock: set the clocks") from error
        raise SeedFailed(f"it is not of the token's mesh ({error.verify_message})") from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError) as error:
        raise SeedFailed("it hung up without a word") from error
    except ssl.SSLError as error:
        raise SeedFailed(_explain_tls(error.reason or str(error))) from error
    except TimeoutError as error:
        raise SeedFailed("it did not answer in time") from error
    except ConnectionRefusedError as error:
        raise SeedFailed("nobody listens there") from error
    except OSError as error:
        raise SeedFailed(error.strerror or str(error)) from error
    except RemoteProtocolError as error:
        raise SeedFailed(f"it broke the protocol: {error}") from error
    except ConfigError as error:
        raise SeedFailed(str(error)) from error


def _explain_tls(reason: str) -> str:
    if "CERTIFICATE_EXPIRED" in reason:
        return "by its clock this token is out of date: set the clocks, or ask for a new token"
    if "ALERT" in reason:
        return f"it does not accept this token ({reason.lower().replace('_', ' ')})"
    return f"something else than meshd answers there ({reason.lower().replace('_', ' ')})"
