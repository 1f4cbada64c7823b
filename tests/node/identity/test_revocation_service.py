"""The revocations service: what it keeps, whom it cuts off, and whom it believes about this node itself."""

import time
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from meshd_node.core.membership.events import VerifiedRevocation
from meshd_node.identity.errors import GrantRefused
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.revoking import revoke_node
from meshd_node.seams import KeySigner, Seams
from meshd_node.services.revocations import NodeRevoked, RevocationService
from meshd_protocol.certificates import Certified, verify_node_chain
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import REVOCATION_S
from meshd_protocol.records import Revocation
from meshd_protocol.signing import Domain, sign

STRANGER = NodeId(bytes(range(20)))


@dataclass
class World:
    """A founder's folder, its clock, and what its service told others."""

    folder: NodeFolder
    wall: float = field(default_factory=time.time)
    monotonic: float = 0.0
    spread: list[VerifiedRevocation] = field(default_factory=list)
    cut_off: list[VerifiedRevocation] = field(default_factory=list)
    own: list[Revocation] = field(default_factory=list)

    @property
    def root_key(self) -> bytes:
        return self.folder.identity().credentials.root_key

    @property
    def me(self) -> Certified:
        credentials = self.folder.identity().credentials
        return verify_node_chain(self.root_key, credentials.chain, time.time())

    def service(self) -> RevocationService:
        """As at a start of the daemon."""
        signer = KeySigner(self.folder.identity().credentials.key)
        seams = Seams(signer=signer, wall=lambda: self.wall, monotonic=lambda: self.monotonic)
        service = RevocationService(self.me, self.folder, self.root_key, seams)
        service.connect(self.spread.extend, self.cut_off.extend, self.own.append)
        return service

    def made(self, node: NodeId, operator: str = "lab", reason: str = "") -> VerifiedRevocation:
        """What another issuer of the mesh would have made."""
        record, signed = revoke_node(self.folder, self.root_key, node, operator, reason, self.wall)
        return VerifiedRevocation(signed, record)


@pytest.fixture
def world(mesh: NodeFolder) -> World:
    return World(mesh)


def test_revoking_keeps_cuts_off_and_tells_the_mesh(world: World) -> None:
    service = world.service()

    record = service.revoke(STRANGER, "lab", "stolen")

    assert [each.revocation for each in world.spread] == [record]
    assert [each.revocation for each in world.cut_off] == [record]
    assert service.revoked(STRANGER, "lab")
    assert not service.revoked(STRANGER, "another operator")
    assert world.service().revoked(STRANGER, "lab"), "after a restart"
    assert [each.revocation for each in world.service().kept] == [record]


def test_reason_that_was_given_stays_when_the_same_node_is_revoked_again_without_one(world: World) -> None:
    """The later revocation takes the place of the first everywhere: nodes said only that, not why."""
    service = world.service()
    service.revoke(STRANGER, "lab", "stolen")
    world.wall += 60.0

    assert service.revoke(STRANGER, "lab", "").reason == "stolen"
    assert service.revoke(STRANGER, "lab", "found again, in pieces").reason == "found again, in pieces"


def test_what_was_refused_is_told_to_nobody(world: World) -> None:
    service = world.service()
    world.folder.root_key_file.unlink()

    with pytest.raises(GrantRefused):
        service.revoke(STRANGER, "another operator", "")

    assert (world.spread, world.cut_off) == ([], [])
    assert not service.revoked(STRANGER, "another operator")


def test_what_membership_learned_cuts_off_and_is_kept_but_not_told_again(world: World) -> None:
    service = world.service()

    service.learned([world.made(STRANGER)])
    service.learned([world.made(STRANGER)])

    assert len(world.cut_off) == 1
    assert world.spread == []
    assert world.service().revoked(STRANGER, "lab")


def test_proof_against_a_peer_is_the_signed_revocation(world: World) -> None:
    service, made = world.service(), world.made(world.me.node)
    assert service.against(world.me) is None

    service.learned([made])

    assert service.against(world.me) == made.signed


def test_revocation_that_has_ended_refuses_nobody(world: World) -> None:
    service = world.service()
    service.revoke(STRANGER, "lab", "")
    world.wall += REVOCATION_S + 1

    assert not service.revoked(STRANGER, "lab")
    assert world.service().kept == []


def test_full_disk_does_not_keep_a_revocation_from_holding(world: World, monkeypatch) -> None:
    service = world.service()
    world.folder.revocations_file.mkdir()

    service.learned([world.made(STRANGER)])

    assert service.revoked(STRANGER, "lab")
    assert len(world.cut_off) == 1


# --- this node itself -----------------------------------------------------------------------------------------------


def test_node_that_is_revoked_itself_is_told_once_and_does_not_start_again(world: World) -> None:
    service, made = world.service(), world.made(world.me.node, reason="sold")

    service.shown(made.signed)
    service.shown(made.signed)

    assert world.own == [made.revocation]
    with pytest.raises(NodeRevoked, match="this node was revoked: sold") as revoked:
        world.service()
    assert "new token" in revoked.value.hint


def test_peer_that_only_says_so_is_not_believed(world: World) -> None:
    """Else any member could end any other with one frame."""
    service, made = world.service(), world.made(world.me.node)
    mine = sign(world.folder.identity().credentials.key, Domain.REVOCATION, made.signed.body)

    service.shown(replace(made.signed, signature=mine.signature))
    service.shown(replace(made.signed, issuer=b""))
    service.shown(replace(made.signed, body=b"believe me"))

    assert world.own == []


def test_shown_revocation_of_somebody_else_is_not_even_verified(world: World) -> None:
    service = world.service()

    service.shown(world.made(STRANGER).signed)

    assert not service.revoked(STRANGER, "lab"), "rumours bring it, within their budget"


def test_revocation_of_this_node_under_another_operator_does_not_end_it(world: World) -> None:
    service = world.service()

    service.shown(world.made(world.me.node, operator="another operator").signed)
    service.learned([world.made(world.me.node, operator="another operator")])

    assert world.own == []
    world.service()
