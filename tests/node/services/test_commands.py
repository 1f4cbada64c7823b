"""Orders over the local socket: who may give them, whom they mean, and what is answered."""

import json
import os
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from meshd_node.core.membership.effects import MemberState
from meshd_node.identity.errors import GrantRefused
from meshd_node.services.local.commands import Commands
from meshd_protocol.ids import ID_BYTES, NodeId, to_text
from meshd_protocol.limits import REASON_CHARS_MAX
from meshd_protocol.messages.local import Answer, Denial, DenialCode, Drain, Reload, Revoke
from meshd_protocol.records import Revocation

ME, ADA, BOB, GONE = (NodeId(bytes([number]) * ID_BYTES) for number in range(4))
OWN_UID = os.getuid()


def member(node: NodeId, name: str, operator: str = "lab") -> Any:
    certified = SimpleNamespace(node=node, operator=operator)
    core = SimpleNamespace(name=name)
    return SimpleNamespace(node=node, core=core, certified=certified, state=MemberState.ALIVE)


@dataclass
class FakeMembers:
    known: list[Any]

    def members(self) -> list[Any]:
        return self.known

    def member(self, node: NodeId) -> Any:
        return next((each for each in self.known if each.node == node), None)


@dataclass
class FakeRevocations:
    revoked: list[tuple[NodeId, str, str]] = field(default_factory=list)
    refusal: GrantRefused | None = None

    def revoke(self, node: NodeId, operator: str, reason: str) -> Revocation:
        if self.refusal is not None:
            raise self.refusal
        self.revoked.append((node, operator, reason))
        return Revocation(bytes(20), node, operator, 5_000, reason)

    def operator_of(self, node: NodeId) -> str | None:
        return "guests" if node == GONE else None


@dataclass
class FakeDraining:
    on: bool = False
    stopping: bool = False
    story: list[str] = field(default_factory=list)

    def begin(self) -> None:
        self.on = True
        self.story.append("begin")

    def end(self) -> None:
        self.on = False
        self.story.append("end")

    def progress(self) -> dict[str, object]:
        return {"state": "draining" if self.on else "ready", "running": 3, "own_units": 0}


class World:
    """Commands with fakes around them."""

    def __init__(self) -> None:
        self.members = FakeMembers([member(ME, "me"), member(ADA, "ada"), member(BOB, "bob", "guests")])
        self.revocations, self.draining = FakeRevocations(), FakeDraining()
        self.reloads, self.fault = 0, ""
        self.commands = Commands(ME, self.members, self.revocations, self.draining, self.reload)  # type: ignore[arg-type]

    def reload(self) -> str:
        self.reloads += 1
        return self.fault

    def obey(self, command: Revoke | Drain | Reload, uid: int = OWN_UID) -> dict[str, Any]:
        answer = self.commands.obey(command, uid)
        assert isinstance(answer, Answer), answer
        return json.loads(answer.json)

    def refused(self, command: Revoke | Drain | Reload, uid: int = OWN_UID) -> Denial:
        answer = self.commands.obey(command, uid)
        assert isinstance(answer, Denial)
        assert len(answer.reason) <= REASON_CHARS_MAX
        assert "\n" not in answer.reason
        return answer


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("command", [Revoke("ada"), Drain(True), Drain(False), Reload()])
def test_other_users_of_the_machine_may_order_nothing(world: World, command: Revoke | Drain | Reload) -> None:
    assert world.refused(command, uid=12_345).code is DenialCode.NOT_ALLOWED
    assert (world.revocations.revoked, world.draining.story, world.reloads) == ([], [], 0)


def test_a_charter_that_can_not_be_used_is_a_refusal_that_says_what_is_wrong(world: World) -> None:
    assert world.obey(Reload()) == {}
    world.fault = "node.toml: charter.slots must be from -1"

    denial = world.refused(Reload())

    assert (denial.code, denial.reason) == (DenialCode.UNUSABLE, world.fault)
    assert world.reloads == 2


@pytest.mark.parametrize("uid", [0, OWN_UID])
def test_root_and_the_daemons_own_user_may(world: World, uid: int) -> None:
    world.obey(Revoke("ada"), uid)
    world.obey(Drain(True), uid)

    assert len(world.revocations.revoked) == 1
    assert world.draining.story == ["begin"]


@pytest.mark.parametrize("text", ["bob", to_text(BOB), to_text(BOB).upper(), to_text(BOB)[:5]])
def test_node_is_meant_by_its_name_its_id_or_the_beginning_of_it(world: World, text: str) -> None:
    found = world.obey(Revoke(text, reason="sold"))

    assert world.revocations.revoked == [(BOB, "guests", "sold")]
    assert found == {"node": to_text(BOB), "name": "bob", "operator": "guests", "until": 5.0, "reason": "sold"}


def test_name_that_two_nodes_have_revokes_neither(world: World) -> None:
    """Anybody may call itself what another one is called."""
    world.members.known.append(member(GONE, "ada"))

    refused = world.refused(Revoke("ada"))

    assert refused.code is DenialCode.NOT_FOUND
    assert to_text(ADA) in refused.reason
    assert to_text(GONE) in refused.reason
    assert world.revocations.revoked == []


def test_name_that_is_another_nodes_id_does_not_stand_in_for_it(world: World) -> None:
    world.members.known.append(member(GONE, to_text(BOB)))

    world.obey(Revoke(to_text(BOB)))

    assert world.revocations.revoked == [(BOB, "guests", "")]


def test_node_that_left_the_view_long_ago_is_revoked_by_its_id_if_this_issuer_let_it_in(world: World) -> None:
    world.obey(Revoke(to_text(GONE)))

    assert world.revocations.revoked == [(GONE, "guests", "")]


def test_node_that_nobody_ever_heard_of_needs_its_operator(world: World) -> None:
    stranger = to_text(b"s" * ID_BYTES)

    refused = world.refused(Revoke(stranger))
    assert refused.code is DenialCode.NOT_FOUND
    assert "--operator" in refused.reason

    world.obey(Revoke(stranger, "lab"))
    assert world.revocations.revoked == [(NodeId(b"s" * ID_BYTES), "lab", "")]


def test_wrong_operator_of_a_known_node_is_refused_since_it_would_end_nothing(world: World) -> None:
    refused = world.refused(Revoke("ada", "guests"))

    assert refused.code is DenialCode.UNUSABLE
    assert "'lab'" in refused.reason


def test_unknown_name_is_refused_and_told_what_would_do(world: World) -> None:
    refused = world.refused(Revoke("nobody\nat all"))

    assert refused.code is DenialCode.NOT_FOUND
    assert "by its whole id" in refused.reason


def test_name_of_a_living_node_and_of_a_revoked_one_says_which_is_which(world: World) -> None:
    """Its machine came back with a new token: whoever orders it again by name must not end the new node."""
    gone = member(GONE, "ada")
    gone.state = MemberState.REVOKED
    world.members.known.append(gone)

    refused = world.refused(Revoke("ada"))

    assert f"{to_text(ADA)} (alive), {to_text(GONE)} (revoked)" in refused.reason
    assert world.revocations.revoked == []


def test_beginning_of_an_id_that_is_too_short_says_how_long_it_must_be(world: World) -> None:
    assert "of at least 4 characters" in world.refused(Revoke(to_text(BOB)[:3])).reason


def test_node_does_not_revoke_itself(world: World) -> None:
    assert world.refused(Revoke("me")).code is DenialCode.UNUSABLE


def test_refusal_of_the_issuer_reaches_the_person_with_what_to_do(world: World) -> None:
    world.revocations.refusal = GrantRefused("this node is no issuer", "do it on the founder")

    refused = world.refused(Revoke("ada"))

    assert refused.code is DenialCode.NOT_ALLOWED
    assert refused.reason == "this node is no issuer (do it on the founder)"


def test_drain_that_is_asked_for_again_only_tells_how_far_it_is(world: World) -> None:
    assert world.obey(Drain(True)) == {"state": "draining", "running": 3, "own_units": 0}
    world.obey(Drain(True))

    assert world.draining.story == ["begin"]
    assert world.obey(Drain(False))["state"] == "ready"


@pytest.mark.parametrize("on", [True, False])
def test_daemon_that_stops_is_not_told_to_drain_or_to_go_on(world: World, on: bool) -> None:
    world.draining.stopping = world.draining.on = True

    assert world.refused(Drain(on)).code is DenialCode.DRAINING
    assert world.draining.story == []
