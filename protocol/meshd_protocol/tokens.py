"""Invite tokens: the one line that `meshd invite` prints and `meshd join` takes. Spec: 09-admission.md, section 4.

`meshd1-` and base64url of: length u16, one byte that checks it, body (MessagePack), four bytes that check the body.
The checks tell accidents (a character lost, a line cut) from forgeries; only the certificates inside prove anything.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta

from meshd_protocol.errors import LocalProtocolError, MalformedToken
from meshd_protocol.ids import KEY_BYTES, MeshId, mesh_id
from meshd_protocol.limits import OPERATOR_CHARS_MAX, SEEDS_MAX, TOKEN_CHARS_MAX
from meshd_protocol.records import Address, CertificateDer, Record

PREFIX: Final = "meshd1-"
_ANY_VERSION: Final = re.compile(r"meshd[0-9]{1,4}-")
_ALPHABET: Final = re.compile(r"[A-Za-z0-9_-]*")
# Three bytes are four characters exactly, so the header can be checked before anything that follows it.
_LENGTH_BYTES: Final = 2
_HEADER_BYTES: Final = 3
_CHECK_BYTES: Final = 4
_ASK_AGAIN: Final = "copy it again from where it was printed"


@dataclass(frozen=True, slots=True)
class Token:
    """What a joiner needs: whom to believe, whom to ask, and the invite with its key (32 secret bytes).

    `name` is what people call the mesh; it proves nothing.
    """

    name: str
    root_key: bytes
    seeds: tuple[str, ...]
    invite: bytes
    issuer: bytes
    key: bytes = field(repr=False)

    @property
    def mesh(self) -> MeshId:
        """The mesh that the token is for."""
        return mesh_id(self.root_key)

    @property
    def chain(self) -> tuple[bytes, bytes]:
        """The invite's certificate and its issuer's."""
        return self.invite, self.issuer

    def private_key(self) -> Ed25519PrivateKey:
        """The invite's key."""
        return Ed25519PrivateKey.from_private_bytes(self.key)


class _Body(Record, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=OPERATOR_CHARS_MAX)]
    root_key: Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
    key: Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
    seeds: Annotated[list[Address], Meta(min_length=1, max_length=SEEDS_MAX)]
    issuer: CertificateDer
    invite: CertificateDer


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Body)


def encode_token(token: Token) -> str:
    """Print a token. Raise `LocalProtocolError` if it breaks a bound: no token that we print may be refused."""
    body = _ENCODER.encode(_Body(token.name, token.root_key, token.key, list(token.seeds), token.issuer, token.invite))
    try:
        _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise LocalProtocolError(f"this can not be put into a token: {error}") from error
    text = PREFIX + base64.urlsafe_b64encode(_header(len(body)) + body + _check(body)).decode("ascii").rstrip("=")
    if len(text) > TOKEN_CHARS_MAX:
        raise LocalProtocolError(f"the token would have {len(text)} characters, {TOKEN_CHARS_MAX} are allowed")
    return text


def decode_token(text: str) -> Token:
    """Read a token that a person pasted, white space and all; raise `MalformedToken` with what is wrong with it."""
    # Terminals and mails wrap lines: white space inside is not the person's fault. Bounded before it is copied.
    if len(text) > 2 * TOKEN_CHARS_MAX:
        raise MalformedToken(f"this is not an invite token: it has {len(text)} characters")
    body = _unwrap("".join(text.split()))
    try:
        read = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedToken(f"the invite token is whole but not understood ({error}): ask for a new one") from error
    return Token(read.name, read.root_key, tuple(read.seeds), read.invite, read.issuer, read.key)


def _unwrap(text: str) -> bytes:
    _check_prefix(text)
    data = _decode_base64(text.removeprefix(PREFIX))
    header, rest = data[:_HEADER_BYTES], data[_HEADER_BYTES:]
    if len(header) < _HEADER_BYTES:
        raise MalformedToken(f"the invite token is cut short: {_ASK_AGAIN}")
    length = int.from_bytes(header[:_LENGTH_BYTES], "big")
    if header != _header(length):
        raise MalformedToken(f"the invite token is mistyped near its beginning: {_ASK_AGAIN}")
    _check_length(len(rest), length + _CHECK_BYTES)
    body = rest[:length]
    if rest[length:] != _check(body):
        raise MalformedToken(f"the invite token is mistyped: {_ASK_AGAIN}")
    return body


def _check_prefix(text: str) -> None:
    if text.startswith(PREFIX):
        return
    if text and PREFIX.startswith(text):
        raise MalformedToken(f"the invite token is cut short: {_ASK_AGAIN}")
    if _ANY_VERSION.match(text):
        raise MalformedToken(
            f"the invite token is of another version ({text.partition('-')[0]}): this release reads {PREFIX}…; "
            "use the same release of meshd on both machines"
        )
    raise MalformedToken(f"this is not an invite token: tokens begin with {PREFIX}")


def _check_length(there: int, announced: int) -> None:
    if there < announced:
        raise MalformedToken(f"the invite token is cut short, its last {announced - there} bytes lack: {_ASK_AGAIN}")
    if there > announced:
        raise MalformedToken(f"the invite token goes on where it should end: {_ASK_AGAIN}")


def _decode_base64(text: str) -> bytes:
    legal = _ALPHABET.match(text)
    assert legal is not None, "the alphabet matches at least nothing"
    if legal.end() < len(text):
        raise MalformedToken(f"the invite token is mistyped: {text[legal.end()]!r} can not be in it; {_ASK_AGAIN}")
    try:
        # A lone last character carries six bits, no byte: it is what a cut may leave.
        whole = text[:-1] if len(text) % 4 == 1 else text
        return base64.urlsafe_b64decode(whole + "=" * (-len(whole) % 4))
    except (binascii.Error, ValueError) as error:
        raise MalformedToken(f"the invite token is mistyped: {_ASK_AGAIN}") from error


def _header(length: int) -> bytes:
    encoded = length.to_bytes(_LENGTH_BYTES, "big")
    return encoded + hashlib.sha256(b"meshd/token-length/1\0" + encoded).digest()[:1]


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"meshd/token/1\0" + body).digest()[:_CHECK_BYTES]
