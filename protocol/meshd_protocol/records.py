"""What is signed: manifest, tranche, receipt, member states. Spec: 06-records.md.

These are the *bodies*; a `Signed` carries them as exact bytes. Nothing here is verified by encoding it again.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from meshd_protocol.errors import MalformedMessage
from meshd_protocol.ids import DIGEST_BYTES, NONCE_BYTES, DigestField, JobIdField, MeshIdField, NodeIdField
from meshd_protocol.limits import (
    ADDRESS_CHARS_MAX,
    ADDRESSES_MAX,
    ATTEMPTS_MAX,
    CERTIFICATE_BYTES_MAX,
    CONTACT_ADDRESSES_MAX,
    DURATION_MS_MAX,
    GPUS_MAX,
    JOB_UNITS_MAX,
    NAME_CHARS_MAX,
    RECORD_NAME_BYTES_MAX,
    RECORD_SALTS,
    RECORD_VALUE_BYTES_MAX,
    REPLICAS_MAX,
    TRANCHE_UNITS_MAX,
)

U32_MAX: Final = (1 << 32) - 1
# msgspec reads integers up to 2**63-1 with full checks; that is enough for bytes, ms and sequence numbers alike.
I63_MAX: Final = (1 << 63) - 1

U32 = Annotated[int, Meta(ge=0, le=U32_MAX)]
U63 = Annotated[int, Meta(ge=0, le=I63_MAX)]
Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
DurationMs = Annotated[int, Meta(ge=0, le=DURATION_MS_MAX)]
UnitIndex = Annotated[int, Meta(ge=0, lt=JOB_UNITS_MAX)]
AttemptNumber = Annotated[int, Meta(ge=0, lt=1 << 16)]
Address = Annotated[str, Meta(min_length=3, max_length=ADDRESS_CHARS_MAX)]
CertificateDer = Annotated[bytes, Meta(min_length=1, max_length=CERTIFICATE_BYTES_MAX)]


class Record(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A body that somebody signs, or a part of one."""


# --- jobs ---------------------------------------------------------------------------------------------------------


class Policy(Record, frozen=True):
    """How a job's units become results.

    `replicas` and `quorum` 0 mean the default trust: one copy from nodes of the submitter's own operator or with the
    role `trusted`, else two that agree and a third if they do not. A `timeout_ms` of 0 is no limit.
    """

    replicas: Annotated[int, Meta(ge=0, le=REPLICAS_MAX)] = 0
    quorum: Annotated[int, Meta(ge=0, le=REPLICAS_MAX)] = 0
    failures_max: Annotated[int, Meta(ge=1, le=ATTEMPTS_MAX)] = 3
    timeout_ms: DurationMs = 0
    pure: bool = True


class Runtime(IntEnum):
    """What runs a job's units, and so what its functions and payloads are. Spec: 15-runtimes.md."""

    PYTHON = 0  # a pickled function, called in a warm worker
    COMMAND = 1  # a program of the node, with declared files in and out
    WASM = 2  # a WebAssembly module, the same everywhere to the bit


class Needs(Record, frozen=True):
    """What one unit asks of the node that runs it. `python` is `major.minor`, since code is shipped as bytecode.

    0 leaves a bound to the node: `memory_bytes` and `scratch_bytes` are what a unit may use, and are enforced.
    `gpu_memory_bytes` is of each GPU. `environment` is the digest of a lock (16-environments.md), or empty: it travels
    as the job's functions do. With `own_process` each unit of PYTHON runs in a process that ends with it.
    """

    cpu_milli: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    memory_bytes: U63 = 0
    gpus: Annotated[int, Meta(ge=0, le=GPUS_MAX)] = 0
    python: Annotated[str, Meta(max_length=16)] = ""
    runtime: Runtime = Runtime.PYTHON
    scratch_bytes: U63 = 0
    gpu_memory_bytes: U63 = 0
    environment: Annotated[bytes, Meta(max_length=DIGEST_BYTES)] = b""
    own_process: bool = False

    def __post_init__(self) -> None:
        """Raise `ValueError` for what is no digest."""
        if len(self.environment) not in (0, DIGEST_BYTES):
            raise ValueError(f"an environment's digest has {DIGEST_BYTES} bytes, not {len(self.environment)}")


class Manifest(Record, frozen=True):
    """What a job is. Signed by the submitter's node in `Domain.MANIFEST`; its bytes name the job."""

    mesh: MeshIdField
    submitter: NodeIdField
    uid: U32
    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    created_ms: U63
    name: Name
    policy: Policy
    needs: Needs


class Tranche(Record, frozen=True):
    """The digests of units `first` to `first + n - 1` of a job. Signed by the submitter's node in `Domain.TRANCHE`."""

    job: JobIdField
    sequence: U32
    first: UnitIndex
    digests: Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES * TRANCHE_UNITS_MAX)]

    def digests_of(self, indices: Sequence[int]) -> list[bytes]:
        """The digests of units by their indices in the job; b"" for one that is not of this tranche."""
        digests, first = self.digests, self.first
        starts = [(index - first) * DIGEST_BYTES for index in indices]
        return [digests[start : start + DIGEST_BYTES] if start >= 0 else b"" for start in starts]


class CageLevel(IntEnum):
    """How well the executor separates work from itself, as it proved at start."""

    NONE = 0
    WASM_ONLY = 1
    CONFINED = 2
    STRICT = 3


class Receipt(Record, frozen=True):
    """What an executor vouches for: a Merkle root over its results (merkle.py). Signed in `Domain.RECEIPT`."""

    job: JobIdField
    executor: NodeIdField
    owner: NodeIdField
    epoch: U32
    cage: CageLevel
    count: Annotated[int, Meta(ge=1, le=TRANCHE_UNITS_MAX)]
    root: DigestField


# --- members ------------------------------------------------------------------------------------------------------


class Slot(IntEnum):
    """The parts of a node's state that change at different speeds, each a signed register of its own."""

    CORE = 1
    OFFER = 2


class Phase(IntEnum):
    """What a node says of itself."""

    ALIVE = 1
    DRAINING = 2
    LEFT = 3


class Version(Record, frozen=True, order=True):
    """Newer versions win. `epoch` is the publisher's persisted boot counter, so that a restart always wins."""

    epoch: U32
    sequence: U32


class State(Record, frozen=True):
    """One register of one node. Signed by `publisher` in `Domain.STATE`; `content` is the slot's own record."""

    mesh: MeshIdField
    publisher: NodeIdField
    slot: Slot
    version: Version
    content: bytes


class Core(Record, frozen=True):
    """Who a node is and where it listens. `certificates` are its own and, unless the root signed it, its issuer's."""

    certificates: Annotated[list[CertificateDer], Meta(min_length=1, max_length=2)]
    name: Name
    addresses: Annotated[list[Address], Meta(max_length=ADDRESSES_MAX)]
    release: Annotated[str, Meta(max_length=32)]


class Gpu(Record, frozen=True):
    """One GPU as its driver names it."""

    uuid: Name
    model: Name
    memory_bytes: U63


class CageLayer(Record, frozen=True):
    """One thing that keeps work apart from the node, and whether it held when the node attacked it at start."""

    name: Annotated[str, Meta(min_length=1, max_length=32)]
    active: bool


class Offer(Record, frozen=True):
    """What a node lends. Every figure is a hint that measured units correct."""

    phase: Phase
    cpu_milli: U32
    memory_bytes: U63
    gpus: Annotated[list[Gpu], Meta(max_length=GPUS_MAX)]
    slots: Annotated[int, Meta(ge=0, le=4096)]
    pythons: Annotated[list[Annotated[str, Meta(max_length=16)]], Meta(max_length=16)]
    platform: Name
    python_loops_per_s: U63
    cage: CageLevel
    own_operator_only: bool
    runtimes: Annotated[tuple[Runtime, ...], Meta(max_length=8)] = (Runtime.PYTHON,)
    layers: Annotated[tuple[CageLayer, ...], Meta(max_length=32)] = ()


class Verdict(IntEnum):
    """What an observer says of a node: it does not answer, or it has not answered for too long."""

    SUSPECT = 1
    DEAD = 2


class Claim(Record, frozen=True):
    """An accusation. Signed by `accuser` in `Domain.CLAIM`; any newer version of `accused` refutes it."""

    mesh: MeshIdField
    accuser: NodeIdField
    accused: NodeIdField
    version: Version
    verdict: Verdict


class Revocation(Record, frozen=True):
    """The end of a node's certificates. Signed in `Domain.REVOCATION` by the root key or by an issuer that may.

    It is kept until `until_ms`, when the last certificate of the node has run out by itself.
    """

    mesh: MeshIdField
    node: NodeIdField
    operator: Name
    until_ms: U63
    reason: Name


# --- directory ----------------------------------------------------------------------------------------------------


class DirectoryKind(IntEnum):
    """What a record of the directory is about. The first two have one writer: their name is their publisher."""

    CONTACT = 1
    CAPABILITY = 2
    PROVIDER = 3
    JOB = 4

    @property
    def one_writer(self) -> bool:
        """Whether nobody but the node of this name may publish under it."""
        return self in (DirectoryKind.CONTACT, DirectoryKind.CAPABILITY)

    @property
    def salts(self) -> int:
        """Under how many keys it lies: more where a liar at one place must not hide it."""
        return RECORD_SALTS if self in (DirectoryKind.CONTACT, DirectoryKind.JOB) else 1


class DirectoryRecord(Record, frozen=True):
    """What a node tells whoever looks. Signed by `publisher` in `Domain.RECORD`; where it lies follows from it."""

    mesh: MeshIdField
    kind: DirectoryKind
    name: Annotated[bytes, Meta(min_length=1, max_length=RECORD_NAME_BYTES_MAX)]
    publisher: NodeIdField
    version: Version
    expires_ms: U63
    value: Annotated[bytes, Meta(max_length=RECORD_VALUE_BYTES_MAX)]


class ContactValue(Record, frozen=True):
    """Of a CONTACT: where its publisher listens."""

    addresses: Annotated[list[Address], Meta(max_length=CONTACT_ADDRESSES_MAX)]


class CapabilityValue(Record, frozen=True):
    """Of a CAPABILITY: what its publisher lends, in short. `gpus` are models."""

    cpu_milli: U32
    memory_bytes: U63
    gpus: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=8)]
    pythons: Annotated[list[Annotated[str, Meta(max_length=16)]], Meta(max_length=8)]
    cage: CageLevel


class ProviderValue(Record, frozen=True):
    """Of a PROVIDER: its publisher holds the blob of this name, of so many bytes."""

    size: U63


class JobValue(Record, frozen=True):
    """Of a JOB: its publisher owns the job of this name in this epoch, and these nodes hold copies of its journal."""

    epoch: U32
    guardians: Annotated[list[NodeIdField], Meta(max_length=8)]


_RecordT = TypeVar("_RecordT", bound=Record)
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODERS: Final[dict[type[Record], msgspec.msgpack.Decoder[Record]]] = {}


def encode_record(record: Record) -> bytes:
    """The bytes that are signed and that travel."""
    return _ENCODER.encode(record)


def decode_record(kind: type[_RecordT], body: bytes) -> _RecordT:
    """Read a signed body; raise `MalformedMessage` if it is not a `kind`, the signer's fault."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(body)  # type: ignore[return-value]  # the table maps each type to its own decoder
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"not a {kind.__name__.lower()}: {error}") from error
