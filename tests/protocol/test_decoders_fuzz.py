"""Every decoder that a stranger's bytes reach: they decode, or the named error blames the peer. Nothing else."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import meshd_protocol
from meshd_protocol import ids, merkle, records
from meshd_protocol.errors import FrameTooLarge, MalformedId, MalformedMessage, RemoteProtocolError, UnknownKind
from meshd_protocol.framing import Channel, Frame, FrameReader, Message
from meshd_protocol.limits import FRAME_HEADER_BYTES
from meshd_protocol.messages.local import LOCAL
from meshd_protocol.messages.peer import PEER
from meshd_protocol.messages.worker import WORKER
from meshd_protocol.programs import (
    CommandCall,
    CommandProgram,
    Ended,
    WasmProgram,
    check_path,
    decode_wasm_payload,
)
from meshd_protocol.records import (
    Claim,
    Core,
    DirectoryRecord,
    Manifest,
    Offer,
    Receipt,
    Record,
    Revocation,
    State,
    Tranche,
)

CHANNELS = [PEER, LOCAL, WORKER]
RECORDS = [
    *(Manifest, Tranche, Receipt, State, Core, Offer, Claim, Revocation, DirectoryRecord),
    *(CommandProgram, CommandCall, WasmProgram),
]
BOUND = 64
FOLDER = Path(meshd_protocol.__file__).parents[1] / "vectors"
VALID = {
    channel.name: [
        (vector["kind"], bytes.fromhex(vector["body"]))
        for vector in json.loads((FOLDER / f"messages_{channel.name}.json").read_text())["vectors"]
        if vector["why"] == "valid"
    ]
    for channel in CHANNELS
}


def messages_of(channel: Channel) -> list[type[Message]]:
    return [kind for kind in _subclasses(Message) if kind.__module__.endswith(f".{channel.name}")]


def _subclasses(base: type[Message]) -> Iterator[type[Message]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _subclasses(kind)


# Anything that MessagePack can say, so that most bodies fail by their meaning and not by their first byte.
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=30)
    | st.binary(max_size=40) | st.binary(min_size=20, max_size=20) | st.binary(min_size=32, max_size=32),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)  # fmt: skip
BODIES = st.binary(max_size=80) | TREES.map(msgspec.msgpack.encode)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
@settings(max_examples=150, deadline=None)
@given(kind=st.integers(0, 255), body=BODIES)
def test_any_body_is_a_message_or_the_peers_fault(channel: Channel, kind: int, body: bytes) -> None:
    decode_or_blame(channel, Frame(kind, 0, body))


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_list_of_anything_under_a_kind_that_exists_is_a_message_or_the_peers_fault(
    channel: Channel, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(messages_of(channel)))
    fields = data.draw(st.lists(TREES, min_size=0, max_size=len(kind.__struct_fields__) + 1))

    decode_or_blame(channel, Frame(kind.KIND, 0, msgspec.msgpack.encode(fields)))


def decode_or_blame(channel: Channel, frame: Frame) -> None:
    try:
        message = channel.decode(frame)
    except (UnknownKind, MalformedMessage):
        return
    again = msgspec.msgpack.encode(message)
    assert channel.decode(Frame(frame.kind, 0, again)) == message


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_message_is_another_message_or_the_peers_fault(channel: Channel, data: st.DataObject) -> None:
    kind, body = data.draw(st.sampled_from(VALID[channel.name]))
    damaged = bytearray(body)
    match data.draw(st.sampled_from(["flip", "cut", "grow", "splice"])):
        case "flip":
            damaged[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del damaged[data.draw(st.integers(0, len(body) - 1)) :]
        case "grow":
            damaged += data.draw(st.binary(min_size=1, max_size=4))
        case "splice":
            place = data.draw(st.integers(0, len(body)))
            damaged[place:place] = data.draw(st.binary(min_size=1, max_size=4))

    decode_or_blame(channel, Frame(kind, 0, bytes(damaged)))


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@settings(max_examples=100, deadline=None)
@given(body=BODIES)
def test_any_body_is_a_record_or_its_signers_fault(kind: type[Record], body: bytes) -> None:
    try:
        record = records.decode_record(kind, body)
    except MalformedMessage:
        return
    assert records.decode_record(kind, records.encode_record(record)) == record


@settings(max_examples=150, deadline=None)
@given(fields=st.lists(TREES, max_size=8), head=st.sampled_from([[], [1], [2], [b"\0asm\1\0\0\0", 65_536, 1]]))
def test_any_list_is_a_program_or_its_senders_fault(fields: list[object], head: list[object]) -> None:
    body = msgspec.msgpack.encode(head + fields)
    for decode in (
        lambda: records.decode_record(CommandProgram, body),
        lambda: records.decode_record(CommandCall, body),
        lambda: records.decode_record(WasmProgram, body),
        lambda: decode_wasm_payload(body),
    ):
        with contextlib.suppress(MalformedMessage):
            decode()


@settings(max_examples=150, deadline=None)
@given(value=TREES | st.fixed_dictionaries(dict.fromkeys(("exit_code", "stdout", "stderr", "files"), TREES)))
def test_any_value_is_the_end_of_a_program_or_its_nodes_fault(value: object) -> None:
    with contextlib.suppress(MalformedMessage):
        Ended.of_value(value)


@settings(max_examples=300, deadline=None)
@given(path=st.text(max_size=20) | st.text("./a\0", max_size=8))
def test_path_that_is_taken_stays_below_its_folder(path: str) -> None:
    try:
        check_path(path)
    except ValueError:
        return
    assert os.path.normpath(os.path.join("/folder", path)) == f"/folder/{path}"


# --- frames -------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    stream=st.binary(max_size=200)
    | st.lists(
        st.builds(
            lambda length, rest: length.to_bytes(4, "big") + rest,
            st.integers(0, BOUND + 8) | st.integers(0, (1 << 32) - 1),
            st.binary(max_size=BOUND),
        ),
        max_size=6,
    ).map(b"".join),
    cuts=st.lists(st.integers(1, 40), max_size=20),
)
def test_any_stream_is_cut_the_same_however_it_arrives(stream: bytes, cuts: list[int]) -> None:
    whole, error = read(stream, [])
    pieces, other = read(stream, cuts)

    assert pieces == whole
    assert type(other) is type(error)
    assert all(len(frame.body) + FRAME_HEADER_BYTES <= BOUND for frame in whole)


def read(stream: bytes, cuts: list[int]) -> tuple[list[Frame], RemoteProtocolError | None]:
    reader, frames = FrameReader(BOUND), []
    for piece in pieces_of(stream, cuts):
        reader.feed(piece)
        try:
            frames += reader.frames()
        except (FrameTooLarge, MalformedMessage) as error:
            with pytest.raises(RemoteProtocolError):
                list(reader.frames())
            return frames, error
        assert reader.buffered < BOUND
    return frames, None


def pieces_of(stream: bytes, cuts: list[int]) -> Iterator[bytes]:
    position = 0
    for cut in cuts:
        yield stream[position : position + cut]
        position += cut
    yield stream[position:]


@settings(max_examples=100, deadline=None)
@given(
    frames=st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.binary(max_size=50)), max_size=8),
    cuts=st.lists(st.integers(1, 40), max_size=20),
)
def test_frames_that_were_written_are_read(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    from meshd_protocol.messages.worker import LoadFunction

    out = bytearray()
    for stream, data in frames:
        WORKER.append(out, LoadFunction(number=1, data=data), stream)
    reader = FrameReader(WORKER.frame_bytes_max)
    read_back = []
    for piece in pieces_of(bytes(out), cuts):
        reader.feed(piece)
        read_back += [(frame.stream, WORKER.decode(frame)) for frame in reader.frames()]

    assert read_back == [(stream, LoadFunction(number=1, data=data)) for stream, data in frames]


# --- ids and trees ------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.text("abcdefghijklmnopqrstuvwxyz234567ABC019=", min_size=32, max_size=32))
def test_any_text_is_an_id_or_is_refused_in_words(text: str) -> None:
    try:
        identifier = ids.from_text(text)
    except MalformedId:
        return
    assert len(identifier) == ids.ID_BYTES
    assert ids.to_text(identifier) == text.lower()


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=20, max_size=20))
def test_id_comes_back_from_its_text(identifier: bytes) -> None:
    assert ids.from_text(ids.to_text(identifier)) == identifier


@settings(max_examples=100, deadline=None)
@given(count=st.integers(1, 256), data=st.data())
def test_every_leaf_proves_itself_and_nothing_else_does(count: int, data: st.DataObject) -> None:
    leaves = [merkle.leaf(index, 0, 0, 0, bytes(32)) for index in range(count)]
    position = data.draw(st.integers(0, count - 1))
    root, steps = merkle.root(leaves), merkle.path(leaves, position)

    assert merkle.root_from_path(leaves[position], steps) == root
    assert len(steps) <= 2
    other = data.draw(st.integers(0, count - 1))
    if other != position:
        assert merkle.root_from_path(leaves[other], steps) != root
    before, behind = steps[0]
    if before != behind:
        swapped = merkle.Step(behind, before)
        assert merkle.root_from_path(leaves[position], [swapped, *steps[1:]]) != root
    with pytest.raises(MalformedMessage):
        merkle.root_from_path(leaves[position][1:], [merkle.Step(before + leaves[position][:1], behind), *steps[1:]])
