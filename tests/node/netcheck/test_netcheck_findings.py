"""What netcheck finds of a whole node: whom it can not reach, and whom it can after all."""

from types import SimpleNamespace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.seams import KeySigner, Seams
from meshd_node.services.netcheck.service import NetcheckService
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.ids import ID_BYTES, MeshId, NodeId
from meshd_protocol.records import Core, Version

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
MESH = MeshId(b"m" * ID_BYTES)
ME, MET, DEAD = (NodeId(letter * ID_BYTES) for letter in (b"a", b"b", b"c"))


def a_member(node: NodeId, *addresses: str, state: MemberState = MemberState.ALIVE) -> Member:
    certified = Certified(MESH, node, "lab", frozenset({Role.WORKER}), KEY.public_key(), 0.0, 1e12, (b"c",))
    return Member(node, state, certified, Core([b"c"], "n", list(addresses), "0.1"), None, Version(1, 1), 0.0)


def a_service(*members: Member, linked: tuple[NodeId, ...] = ()) -> NetcheckService:
    """A node without addresses of its own, so that it asks nobody to dial it."""
    known = {member.node: member for member in (a_member(ME), *members)}
    links = [
        SimpleNamespace(peer=SimpleNamespace(node=node), address=None, rtt_s=None, ahead_s=0.0, heard_at=0.0)
        for node in linked
    ]
    of_members = SimpleNamespace(members=lambda: list(known.values()), member=known.get)
    transport = SimpleNamespace(links=lambda: links, flush=lambda: None, reach=None)
    seams = Seams(signer=KeySigner(KEY), monotonic=lambda: 9.0, wall=lambda: 0.0)
    return NetcheckService(
        lambda: known[ME].certified,
        of_members,  # type: ignore[arg-type]
        transport,  # type: ignore[arg-type]
        seams,
        seeds=(),
        listening=list,
    )


async def test_seed_that_was_down_is_not_called_unreached_once_its_node_has_come_by_itself() -> None:
    """After a restart of all the first ones dial in vain, and are dialled: nothing is left to mend."""
    service = a_service(a_member(MET, "s:1"), linked=(MET,))
    service.dial_failed(None, "s:1", "nobody listens")
    service.dial_failed(None, "old:1", "nobody listens")

    assert [failure["address"] for failure in (await service.check())["unreached"]] == ["old:1"]


async def test_dials_of_the_dead_explain_themselves() -> None:
    service = a_service(a_member(DEAD, "d:1", state=MemberState.DEAD), a_member(MET, "m:1"))
    service.dial_failed(DEAD, "d:1", "nobody listens")
    service.dial_failed(MET, "m:1", "no answer within 5 s")

    assert [failure["reason"] for failure in (await service.check())["unreached"]] == ["no answer within 5 s"]
