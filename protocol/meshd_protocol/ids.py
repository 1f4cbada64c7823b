"""Identifiers: what they are made of and how people read them. Spec: 01-ids.md.

Every id is bytes on the wire and lower-case base32 without padding for people: 20 bytes are 32 characters.
"""

import base64
import binascii
from collections.abc import Iterable
from typing import Annotated, Final, NewType, cast

from blake3 import blake3
from msgspec import Meta

from meshd_protocol.errors import MalformedId

ID_BYTES: Final = 20
DIGEST_BYTES: Final = 32
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 16

MeshId = NewType("MeshId", bytes)
NodeId = NewType("NodeId", bytes)
JobId = NewType("JobId", bytes)
Digest = NewType("Digest", bytes)
# A place in the directory, in one space with NodeIds.
Key = NewType("Key", bytes)

_UNIT: Final = b"meshd/unit/1\0"
# By status, which is one byte.
_RESULT: Final = tuple(b"meshd/result/1\0%c" % status for status in range(256))

# The same types as fields of messages, with their exact length checked while decoding.
MeshIdField = Annotated[MeshId, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
NodeIdField = Annotated[NodeId, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
JobIdField = Annotated[JobId, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
KeyField = Annotated[Key, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
DigestField = Annotated[Digest, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]


def mesh_id(root_key: bytes) -> MeshId:
    """Name the mesh of a root key (32 raw bytes, Ed25519)."""
    return MeshId(_tagged(b"meshd/mesh-id/1\0", root_key)[:ID_BYTES])


def node_id(node_key: bytes, nonce: bytes) -> NodeId:
    """Name a node by its key and the nonce its issuer chose, so that nobody can choose a place in a ring."""
    return NodeId(_tagged(b"meshd/node-id/1\0", node_key + nonce)[:ID_BYTES])


def job_id(manifest: bytes) -> JobId:
    """Name a job by its exact manifest bytes."""
    return JobId(_tagged(b"meshd/job-id/1\0", manifest)[:ID_BYTES])


def record_key(kind: int, salt: int, name: bytes) -> Key:
    """Where the directory keeps records of this name. Of kinds with one writer the name is the writer's id."""
    return Key(_tagged(b"meshd/record-key/1\0", bytes((kind, salt)) + name)[:ID_BYTES])


def function_digest(function: bytes) -> Digest:
    """Digest of a pickled function."""
    return Digest(blake3(b"meshd/function/1\0" + function).digest())


def unit_digests(functions: Iterable[Digest], payloads: Iterable[bytes]) -> list[Digest]:
    """Digests of units: which function each calls and with what. They are what a tranche's signature covers.

    In one go, like `result_digests`: calls in Python would cost as much as the hashing.
    """
    digests = [
        blake3(_UNIT + function + payload).digest() for function, payload in zip(functions, payloads, strict=True)
    ]
    return cast("list[Digest]", digests)


def unit_digest(function: Digest, payload: bytes) -> Digest:
    """Digest of one unit."""
    return unit_digests((function,), (payload,))[0]


def result_digests(results: Iterable[tuple[int, bytes]]) -> list[Digest]:
    """Digests of results, each a status and a value. Two results agree under `exact` when these are equal."""
    return cast("list[Digest]", [blake3(_RESULT[status] + value).digest() for status, value in results])


def result_digest(status: int, value: bytes) -> Digest:
    """Digest of one result."""
    return result_digests(((status, value),))[0]


def to_text(identifier: bytes) -> str:
    """Write an id as people see it."""
    return base64.b32encode(identifier).decode("ascii").rstrip("=").lower()


def from_text(text: str) -> bytes:
    """Read an id that a person typed; raise `MalformedId` if it is not one."""
    padding = "=" * (-len(text) % 8)
    if not text.isascii():  # some other letters become ASCII in upper case: an id has one spelling but for its case
        raise MalformedId(f"{text!r} is not an id: ids are 32 letters and digits from a-z and 2-7")
    try:
        identifier = base64.b32decode(text.upper() + padding)
    except (binascii.Error, ValueError) as error:
        raise MalformedId(f"{text!r} is not an id: ids are 32 letters and digits from a-z and 2-7") from error
    if len(identifier) != ID_BYTES:
        raise MalformedId(f"{text!r} is not an id: it has {len(text)} characters, ids have 32")
    return identifier


def _tagged(tag: bytes, body: bytes) -> bytes:
    # Here, since it loads OpenSSL, 13 ms, which programs that only submit never need.
    import hashlib  # noqa: PLC0415

    return hashlib.sha256(tag + body).digest()
