"""The vectors beside the spec: what every implementation must read, and what it must refuse by which name."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import meshd_protocol
from meshd_protocol import errors, ids, merkle, names, programs, records, signing, tokens, values
from meshd_protocol.framing import Channel, Frame, FrameReader, Message
from meshd_protocol.messages.local import LOCAL
from meshd_protocol.messages.membership import SignedRevocation
from meshd_protocol.messages.peer import PEER
from meshd_protocol.messages.worker import WORKER
from meshd_protocol.revocations import verify_revocation

FOLDER = Path(meshd_protocol.__file__).parents[1] / "vectors"

Vector = dict[str, object]
Check = Callable[[Vector], object]


def read_ids(vector: Vector) -> object:
    function = getattr(ids, vector["function"])
    texts = vector["function"] == "from_text"
    arguments = [
        argument if texts or isinstance(argument, int) else bytes.fromhex(argument) for argument in vector["arguments"]
    ]
    return {"value": _hex(function(*arguments))}


def read_frames(vector: Vector) -> object:
    reader = FrameReader(vector["bound"])
    reader.feed(bytes.fromhex(vector["stream"]))
    return [{"kind": kind, "stream": stream, "body": body.hex()} for kind, stream, body in reader.frames()]


def read_signed(vector: Vector) -> object:
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vector["key"]))
    signed = signing.Signed(bytes.fromhex(vector["body"]), bytes.fromhex(vector["signature"]))
    return {"value": signing.verify(key, signing.Domain[vector["domain"]], signed).hex()}


def read_record(vector: Vector) -> object:
    record = records.decode_record(getattr(records, vector["record"]), bytes.fromhex(vector["body"]))
    assert records.encode_record(record).hex() == vector["body"]
    return _json(record)


def read_program(vector: Vector) -> object:
    body = bytes.fromhex(vector["body"])
    match vector["record"]:
        case "Ended":
            return _json(programs.Ended.of_value(values.decode(body)))
        case "WasmPayload":
            record: records.Record = programs.decode_wasm_payload(body)
        case name:
            record = records.decode_record(getattr(programs, name), body)
    assert records.encode_record(record).hex() == vector["body"]
    return _json(record)


def read_message(channel: Channel) -> Check:
    def read(vector: Vector) -> object:
        message = channel.decode(Frame(vector["kind"], 0, bytes.fromhex(vector["body"])))
        assert channel.encode(message)[9:].hex() == vector["body"]
        return _json(message)

    return read


def read_value(vector: Vector) -> object:
    value = values.decode(bytes.fromhex(vector["bytes"]))
    assert values.encode(value).hex() == vector["bytes"]
    return {"value": repr(value)}


def read_root(vector: Vector) -> object:
    leaves = [bytes.fromhex(leaf) for leaf in vector["leaves"]]
    path = [merkle.Step(bytes.fromhex(before), bytes.fromhex(behind)) for before, behind in vector["path"]]
    led_to = merkle.root_from_path(leaves[vector["position"]], path)
    if led_to != merkle.root(leaves):
        return "other root"
    assert merkle.path(leaves, vector["position"]) == path
    return {"value": led_to.hex()}


def read_leaf(vector: Vector) -> object:
    result = bytes.fromhex(vector["result"])
    leaf = merkle.leaf(vector["index"], vector["attempt"], vector["status"], vector["took_us"], result)
    return {"value": leaf.hex()}


def read_name(vector: Vector) -> object:
    name = getattr(names, vector["sort"]).parse(vector["uri"])
    assert name.uri() == vector["uri"]
    return {"value": {field: _plain(getattr(name, field)) for field in name.__dataclass_fields__}}


def read_revocation(vector: Vector) -> object:
    body, signature, issuer = (bytes.fromhex(vector[field]) for field in ("body", "signature", "issuer"))
    signed = SignedRevocation(body, signature, issuer)
    return _json(verify_revocation(bytes.fromhex(vector["root_key"]), signed, vector["wall"]))


def read_token(vector: Vector) -> object:
    token = tokens.decode_token(vector["token"])
    assert tokens.encode_token(token) == vector["token"]
    return {"value": {field: _plain(getattr(token, field)) for field in token.__dataclass_fields__}}


def _plain(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case frozenset():
            return sorted(str(item) for item in value)
        case tuple():
            return [_plain(item) for item in value]
    return value


def _subclasses(base: type[Message]) -> list[type[Message]]:
    return [kind for below in base.__subclasses__() for kind in (below, *_subclasses(below))]


def _json(message: msgspec.Struct) -> object:
    return json.loads(json.dumps(msgspec.to_builtins(message)))


def _hex(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


CHECKS: dict[str, Check] = {
    "framing": read_frames,
    "ids": read_ids,
    "leaves": read_leaf,
    "merkle": read_root,
    "messages_directory": read_message(PEER),
    "messages_local": read_message(LOCAL),
    "messages_membership": read_message(PEER),
    "messages_peer": read_message(PEER),
    "messages_worker": read_message(WORKER),
    "names": read_name,
    "programs": read_program,
    "records": read_record,
    "revocations": read_revocation,
    "signing": read_signed,
    "tokens": read_token,
    "values": read_value,
}


def load(file: str) -> list[Vector]:
    content = json.loads((FOLDER / f"{file}.json").read_text())
    return content["vectors"]


@pytest.mark.parametrize(
    ("file", "vector"),
    [pytest.param(file, vector, id=f"{file}: {vector['name']}") for file in CHECKS for vector in load(file)],
)
def test_vector(file: str, vector: Vector) -> None:
    expected = vector["expect"]
    if isinstance(expected, str) and hasattr(errors, expected):
        with pytest.raises(errors.ProtocolError) as caught, np.errstate(all="raise"):
            CHECKS[file](vector)
        assert type(caught.value).__name__ == expected, vector["why"]
        assert "\n" not in str(caught.value)
    else:
        assert CHECKS[file](vector) == expected, vector["why"]


def test_every_file_of_vectors_is_checked() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(CHECKS)


def test_every_kind_of_every_channel_has_vectors() -> None:
    for channel in (PEER, LOCAL, WORKER):
        kinds = {vector["kind"] for vector in load(f"messages_{channel.name}") if vector["why"] == "valid"}
        assert kinds == {kind.KIND for kind in _subclasses(Message) if kind.__module__.endswith(f".{channel.name}")}


@pytest.mark.parametrize("part", ["directory", "membership"])
def test_every_kind_of_a_part_of_the_peer_channel_has_vectors(part: str) -> None:
    kinds = {vector["kind"] for vector in load(f"messages_{part}") if vector["why"] == "valid"}
    assert kinds == {kind.KIND for kind in _subclasses(Message) if kind.__module__.endswith(f".{part}")}


def test_vectors_mostly_must_fail() -> None:
    all_of_them = [vector for file in CHECKS for vector in load(file)]
    failing = [vector for vector in all_of_them if isinstance(vector["expect"], str)]

    assert len(failing) > len(all_of_them) / 2
