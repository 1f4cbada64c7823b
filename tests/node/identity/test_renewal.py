"""Renewal on virtual time: months take milliseconds, and the certificates are real."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.membership.effects import MemberState
from meshd_node.identity.admission import Admission
from meshd_node.identity.errors import CertificateUnusable, FolderUnusable
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.founding import Founding, init_mesh
from meshd_node.identity.issuer import Issuer
from meshd_node.identity.renewal import certified_now
from meshd_node.net.tls import Credentials
from meshd_node.seams import KeySigner, Seams
from meshd_node.services.renewal import Renewal
from meshd_protocol.certificates import Certified, Role, verify_node_chain
from meshd_protocol.framing import Message
from meshd_protocol.ids import NONCE_BYTES, NodeId, node_id
from meshd_protocol.issuing import Signer, issue_node
from meshd_protocol.messages.peer import SignGrant, SignRefusal, SignRefusalCode, SignRequest
from meshd_protocol.names import NodeName

WALL = 1_800_000_000.0
DAY = 86_400.0
OTHER = NodeId(b"another issuer......")
Answer = Callable[[bytes], Message | None]


@dataclass
class World:
    """A mesh whose founder issues, and a node of it that renews. Time is trio's, and WALL is its beginning."""

    founder: NodeFolder
    certified: Certified
    credentials: Credentials
    taken: list[Certified] = field(default_factory=list)
    asked: list[NodeId] = field(default_factory=list)
    dialled: list[NodeId] = field(default_factory=list)
    linked: set[NodeId] = field(default_factory=set)
    answers: dict[NodeId, Answer] = field(default_factory=dict)
    members_here: list[Any] = field(default_factory=list)

    def wall(self) -> float:
        return WALL + trio.current_time() - self.begun

    def __post_init__(self) -> None:
        self.begun = trio.current_time()
        root_key = self.founder.identity().credentials.root_key
        admission = Admission(Issuer(self.founder, root_key, random.Random(5).randbytes))
        self.issuer = self.founder.identity().name.node
        self.answers[self.issuer] = lambda request: admission.answer_node(
            self.certified, SignRequest(request), self.wall()
        )
        self.meet(self.issuer, linked=True)

    def meet(self, node: NodeId, *, linked: bool, roles: frozenset[Role] = frozenset({Role.ISSUER})) -> None:
        """Let the node know a member."""
        core, certified = SimpleNamespace(addresses=["127.0.0.1:1"]), SimpleNamespace(roles=roles)
        member = SimpleNamespace(node=node, certified=certified, core=core, state=MemberState.ALIVE)
        self.members_here.append(member)
        if linked:
            self.linked.add(node)

    # What `Renewal` asks of the daemon.

    def renew(self, me: Certified, issuer: NodeId, request: bytes, reply: Callable[[Message], None]) -> None:
        self.asked.append(issuer)
        answer = self.answers[issuer](request)
        if answer is not None:
            reply(answer)

    def members(self) -> list[Any]:
        return self.members_here

    def link(self, node: NodeId) -> object | None:
        return node if node in self.linked else None

    def dial(self, node: NodeId, addresses: list[str]) -> None:
        self.dialled.append(node)

    def flush(self) -> None:
        pass

    def take(self, certified: Certified) -> None:
        self.taken.append(certified)
        self.certified = certified

    def renewal(self) -> Renewal:
        seams = Seams(signer=KeySigner(self.credentials.key), wall=self.wall, rng=random.Random(1))
        return Renewal(self.credentials, self.certified, "laptop", self, self, self, self.take, seams)  # type: ignore[arg-type]


@pytest.fixture
async def world(tmp_path: Path, entropy) -> World:
    folder = NodeFolder(tmp_path / "first")
    init_mesh(folder, Founding(mesh_name="lab mesh", operator="lab", node_name="first"), WALL, entropy)
    issuer = folder.issuer()
    assert issuer is not None
    key, nonce = Ed25519PrivateKey.from_private_bytes(bytes([8]) * 32), bytes(NONCE_BYTES)
    node = node_id(key.public_key().public_bytes_raw(), nonce)
    name = NodeName(folder.identity().mesh, node, "lab", frozenset({Role.WORKER}), nonce)
    signer = Signer.issuer(*issuer)
    chain = (issue_node(signer, key.public_key(), name, 77, WALL), *signer.chain)
    root_key = folder.identity().credentials.root_key
    return World(folder, verify_node_chain(root_key, chain, WALL), Credentials(root_key, chain, key))


async def test_certificate_is_renewed_at_a_third_of_its_life_again_and_again(
    world: World, nursery, autojump_clock
) -> None:
    first = world.certified
    nursery.start_soon(world.renewal().run)

    await trio.sleep(29 * DAY)
    assert world.taken == []
    await trio.sleep(2 * DAY)
    assert len(world.taken) == 1
    await trio.sleep(330 * DAY)

    assert len(world.taken) in (11, 12), "once a month"
    assert (world.certified.node, world.certified.roles) == (first.node, first.roles)
    assert world.certified.not_after > first.not_after + 300 * DAY


async def test_certificate_that_was_due_while_the_node_was_off_is_renewed_at_once(
    world: World, nursery, autojump_clock
) -> None:
    await trio.sleep(80 * DAY)

    nursery.start_soon(world.renewal().run)
    await trio.sleep(1)

    assert len(world.taken) == 1


async def test_issuer_that_refuses_is_passed_over_for_one_that_grants(world: World, nursery, autojump_clock) -> None:
    world.meet(OTHER, linked=True)
    world.answers[OTHER] = lambda request: SignRefusal(SignRefusalCode.NOT_GRANTABLE, "not one of mine")

    nursery.start_soon(world.renewal().run)
    await trio.sleep(365 * DAY)

    assert len(world.taken) >= 11
    assert OTHER in world.asked


async def test_issuer_that_never_answers_costs_half_a_minute(world: World, nursery, autojump_clock) -> None:
    world.meet(OTHER, linked=True)
    world.answers[OTHER] = lambda request: None
    world.linked.discard(world.issuer)

    await trio.sleep(31 * DAY)
    nursery.start_soon(world.renewal().run)
    await trio.sleep(60)

    assert world.asked == [OTHER, world.issuer]
    assert len(world.taken) == 1


async def test_issuer_without_a_session_is_dialled(world: World, nursery, autojump_clock) -> None:
    """The mesh is no full mesh of sessions."""
    world.linked.clear()
    await trio.sleep(31 * DAY)

    nursery.start_soon(world.renewal().run)
    await trio.sleep(1)
    assert (world.dialled, world.asked) == ([world.issuer], [])
    world.linked.add(world.issuer)
    await trio.sleep(10)

    assert len(world.taken) == 1


async def test_without_any_issuer_it_is_tried_again_until_one_is_back(world: World, nursery, autojump_clock) -> None:
    grants = world.answers[world.issuer]
    world.answers[world.issuer] = lambda request: SignRefusal(SignRefusalCode.ISSUER_UNREACHABLE, "away")
    nursery.start_soon(world.renewal().run)
    await trio.sleep(60 * DAY)
    assert world.taken == []

    world.answers[world.issuer] = grants
    await trio.sleep(600)

    assert len(world.taken) == 1


async def test_certificate_of_another_node_or_of_no_longer_life_is_not_taken(
    world: World, nursery, autojump_clock
) -> None:
    """An issuer that is taken over must not be able to turn a node into another one."""
    await trio.sleep(31 * DAY)
    founders = world.founder.identity().credentials.chain
    given = iter([SignGrant(list(founders)), SignGrant(list(world.certified.chain)), SignGrant([b"rubbish"])])
    world.answers[world.issuer] = lambda request: next(given, None)

    nursery.start_soon(world.renewal().run)
    await trio.sleep(1_800)

    assert len(world.asked) >= 3
    assert world.taken == []


async def test_disk_that_is_full_delays_a_renewal_and_ends_nothing(
    world: World, nursery, autojump_clock, monkeypatch
) -> None:
    taken: list[Certified] = []

    def take(certified: Certified) -> None:
        taken.append(certified)
        if len(taken) == 1:
            raise FolderUnusable("no space left")

    monkeypatch.setattr(world, "take", take)
    await trio.sleep(31 * DAY)
    nursery.start_soon(world.renewal().run)
    await trio.sleep(700)

    assert len(taken) == 2


async def test_issuers_own_node_renews_itself(world: World, nursery, autojump_clock) -> None:
    identity = world.founder.identity()
    world.credentials = identity.credentials
    world.certified = verify_node_chain(identity.credentials.root_key, identity.credentials.chain, WALL)
    world.linked.clear()

    nursery.start_soon(world.renewal().run)
    await trio.sleep(31 * DAY)

    assert world.dialled == []
    assert [each.node for each in world.taken] == [world.issuer]


async def test_members_that_are_no_issuers_are_not_asked(world: World, nursery, autojump_clock) -> None:
    world.members_here.clear()
    world.meet(OTHER, linked=True, roles=frozenset({Role.WORKER}))
    world.meet(world.issuer, linked=True)
    world.members_here[-1].state = MemberState.DEAD
    await trio.sleep(31 * DAY)

    nursery.start_soon(world.renewal().run)
    await trio.sleep(700)

    assert world.asked == []


def test_node_whose_certificate_has_ended_is_told_what_to_do(mesh: NodeFolder) -> None:
    identity = mesh.identity()

    with pytest.raises(CertificateUnusable, match="ended at") as ended:
        certified_now(identity, time.time() + 91 * DAY)
    assert "new token" in ended.value.hint
    with pytest.raises(CertificateUnusable, match="set the clock"):
        certified_now(identity, time.time() - 91 * DAY)
    assert certified_now(identity, time.time()).node == identity.name.node
