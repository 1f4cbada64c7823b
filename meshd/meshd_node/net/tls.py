"""TLS contexts: version 1.3 only, both sides authenticated, one root, nothing resumed. Spec: 08-peer.md, section 1."""

import base64
import os
import ssl
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshd_protocol.certificates import trust_anchor

ALPN: Final = "meshd/1"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are: the mesh's root key, our certificate (and its issuer's, unless the root signed it), our key."""

    root_key: bytes
    chain: tuple[bytes, ...]
    key: Ed25519PrivateKey = field(repr=False)

    @property
    def issuer(self) -> bytes:
        """The issuer's certificate, or empty: a `Hello` carries it."""
        return self.chain[1] if len(self.chain) > 1 else b""


def client_context(credentials: Credentials) -> ssl.SSLContext:
    """Dial with these credentials. Names are not checked here: nodes have none, the hello's checks go by node id."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _prepare(context, credentials)


def server_context(credentials: Credentials) -> ssl.SSLContext:
    """Accept with these credentials. Without tickets nothing is sent to a client before it has proved who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    return _prepare(context, credentials)


def _prepare(context: ssl.SSLContext, credentials: Credentials) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET
    context.set_alpn_protocols([ALPN])
    context.load_verify_locations(cadata=trust_anchor(credentials.root_key))
    _load(context, credentials)
    return context


def _load(context: ssl.SSLContext, credentials: Credentials) -> None:
    # `ssl` reads keys from files only. This one has no name and never reaches a disk.
    descriptor = os.memfd_create("meshd-credentials", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"".join(_pem(der) for der in credentials.chain))
        file.write(credentials.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
