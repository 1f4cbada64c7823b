"""Looking up: here first, then in the directory, which may say nothing, too much, or never end."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.seams import KeySigner, Seams
from meshd_node.services.lookup.directory import Search
from meshd_node.services.lookup.service import PATIENCE_S, Lookup
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.ids import ID_BYTES, MeshId, NodeId, to_text
from meshd_protocol.messages.local import Denial, DenialCode
from meshd_protocol.records import (
    ContactValue,
    Core,
    DirectoryKind,
    DirectoryRecord,
    JobValue,
    ProviderValue,
    Record,
    Version,
    encode_record,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
MESH = MeshId(b"m" * ID_BYTES)
ME, OTHER, THIRD = (NodeId(letter * ID_BYTES) for letter in (b"a", b"b", b"c"))
NAME = b"j" * ID_BYTES


def a_member(node: NodeId, name: str) -> Member:
    certified = Certified(MESH, node, "lab", frozenset({Role.WORKER}), KEY.public_key(), 0.0, 1e12, (b"c",))
    core = Core([b"c"], name, ["10.0.0.1:7423"], "0.1")
    return Member(node, MemberState.ALIVE, certified, core, None, Version(2, 7), 0.0)


def a_record(kind: DirectoryKind, value: Record | bytes, name: bytes = NAME) -> DirectoryRecord:
    body = value if isinstance(value, bytes) else encode_record(value)
    return DirectoryRecord(MESH, kind, name, THIRD, Version(1, 1), 1_000_000, body)


@dataclass
class FakeMembers:
    known: list[Member]

    def members(self) -> list[Member]:
        return self.known

    def member(self, node: NodeId) -> Member | None:
        return next((member for member in self.known if member.node == node), None)


@dataclass
class FakeOwner:
    jobs_of: list[bytes] = field(default_factory=list)

    def jobs(self) -> list["FakeOwner.Job"]:
        return [FakeOwner.Job(job) for job in self.jobs_of]

    @dataclass
    class Job:
        job: bytes


class FakeDirectory:
    """Answers at once with what it holds; a kind in `mute` is never answered."""

    def __init__(self, *records: DirectoryRecord, mute: frozenset[DirectoryKind] = frozenset()) -> None:
        self._records = records
        self._mute = mute

    def find_contact(self, node: NodeId, done: Callable[[Search], None]) -> None:
        self.find_records(DirectoryKind.CONTACT, node, done)

    def find_records(self, kind: DirectoryKind, name: bytes, done: Callable[[Search], None]) -> None:
        found = [record for record in self._records if (record.kind, record.name) == (kind, name)]
        if kind not in self._mute:
            done(Search(records=found, answered_by=[OTHER] if found else [], hops=2, asked=3))


@pytest.fixture
def lookup():
    """Make a lookup among these members, with these jobs of this node's own, in this directory."""

    def make(*members: Member, jobs: tuple[bytes, ...] = (), directory: FakeDirectory | None = None) -> Lookup:
        known = FakeMembers([a_member(ME, "me"), *members])
        seams = Seams(signer=KeySigner(KEY), monotonic=trio.current_time)
        return Lookup(ME, known, FakeOwner(list(jobs)), directory, seams)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize("text", ["n1", to_text(OTHER), to_text(OTHER)[:6], to_text(OTHER).upper()])
async def test_member_is_found_by_name_id_and_the_beginning_of_its_id(lookup, text: str) -> None:
    found = await lookup(a_member(OTHER, "n1")).find(text)

    assert [entry["node"] for entry in found["found"]] == [to_text(OTHER)]
    assert found["directory"] is None


async def test_member_that_calls_itself_by_anothers_id_is_not_taken_for_it(lookup) -> None:
    found = await lookup(a_member(OTHER, "n1"), a_member(THIRD, to_text(OTHER))).find(to_text(OTHER))

    assert [entry["name"] for entry in found["found"]] == ["n1"]


async def test_name_of_two_members_is_refused_with_their_ids(lookup) -> None:
    found = await lookup(a_member(OTHER, "twin"), a_member(THIRD, "twin")).find("twin")

    assert found.code is DenialCode.NOT_FOUND
    assert to_text(OTHER) in found.reason
    assert to_text(THIRD) in found.reason


async def test_member_and_its_contact_record_are_both_told(lookup) -> None:
    contact = a_record(DirectoryKind.CONTACT, ContactValue(["10.9.9.9:1"]), OTHER)

    found = await lookup(a_member(OTHER, "n1"), directory=FakeDirectory(contact)).find("n1")

    assert [(entry["from"], entry["addresses"]) for entry in found["found"]] == [
        ("membership", ["10.0.0.1:7423"]),
        ("directory", ["10.9.9.9:1"]),
    ]
    assert found["directory"]["answered_by"] == [{"node": to_text(OTHER), "name": "n1"}]
    assert (found["directory"]["hops"], found["directory"]["asked"]) == (2, 3)


async def test_job_of_this_node_needs_no_directory(lookup) -> None:
    found = await lookup(jobs=(NAME,)).find(to_text(NAME))

    assert [(entry["kind"], entry["node"]) for entry in found["found"]] == [("job", to_text(ME))]


async def test_job_and_provider_of_others_are_found_in_the_directory(lookup) -> None:
    directory = FakeDirectory(
        a_record(DirectoryKind.JOB, JobValue(4, [OTHER])), a_record(DirectoryKind.PROVIDER, ProviderValue(99))
    )

    found = await lookup(directory=directory).find(to_text(NAME))

    assert {entry["kind"]: entry["node"] for entry in found["found"]} == {
        "job": to_text(THIRD),
        "provider": to_text(THIRD),
    }
    assert [entry.get("epoch") for entry in found["found"] if entry["kind"] == "job"] == [4]


async def test_record_that_can_not_be_read_is_left_out(lookup) -> None:
    """Its publisher signed nonsense, or is of a later release: neither is this node's end."""
    found = await lookup(directory=FakeDirectory(a_record(DirectoryKind.JOB, b"\xc1"))).find(to_text(NAME))

    assert isinstance(found, Denial)


async def test_search_that_never_ends_is_given_up_and_the_others_count(lookup, autojump_clock) -> None:
    directory = FakeDirectory(
        a_record(DirectoryKind.PROVIDER, ProviderValue(1)), mute=frozenset({DirectoryKind.JOB, DirectoryKind.CONTACT})
    )

    found = await lookup(directory=directory).find(to_text(NAME))

    assert [entry["kind"] for entry in found["found"]] == ["provider"]
    assert found["directory"]["ms"] == pytest.approx(PATIENCE_S * 1_000, rel=0.01)


async def test_job_that_nobody_knows_yet_is_denied_with_when_it_will_be_known(lookup) -> None:
    """An owner tells the directory of jobs that last only: one that has just begun is not there."""
    found = await lookup(directory=FakeDirectory()).find(to_text(NAME))

    assert "in 9 questions (of a job it is told after 20 s at most)" in found.reason


@pytest.mark.parametrize("text", ["nobody", "", "a" * 200, to_text(NAME), "é" * 40])
async def test_what_nobody_knows_is_denied_in_one_line(lookup, text: str) -> None:
    found = await lookup(directory=FakeDirectory()).find(text)

    assert found.code is DenialCode.NOT_FOUND
    assert "\n" not in found.reason
