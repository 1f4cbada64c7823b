"""Invites, what they let in, and that no use is lost or free."""

import os
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.identity.admission import Admission, Relay
from meshd_node.identity.errors import BadRequest, FolderUnusable, GrantRefused
from meshd_node.identity.folder import NodeFolder, load_key
from meshd_node.identity.founding import Founding, init_mesh
from meshd_node.identity.inviting import Invitation, make_invite
from meshd_node.identity.issuer import Issuer
from meshd_node.identity.ledger import Ledger
from meshd_protocol.certificates import Invited, Role, verify_invite_chain, verify_node_chain
from meshd_protocol.issuing import joining_request, renewal_request
from meshd_protocol.messages.peer import SignGrant, SignRefusal, SignRefusalCode, SignRequest
from meshd_protocol.tokens import Token, decode_token

WALL = 1_800_000_000.0
SEEDS = ("10.0.0.1:7423",)


def joiner(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes((1000 + number).to_bytes(32, "big"))


@pytest.fixture
def folder(tmp_path: Path, entropy) -> NodeFolder:
    folder = NodeFolder(tmp_path / "first")
    init_mesh(folder, Founding(mesh_name="lab mesh", operator="lab", node_name="first"), WALL, entropy)
    return folder


def admission(folder: NodeFolder, entropy) -> Admission:
    return Admission(Issuer(folder, folder.identity().credentials.root_key, entropy))


def invite(folder: NodeFolder, entropy, **choices) -> tuple[Token, Invited]:
    token = decode_token(make_invite(folder, Invitation(seeds=SEEDS, **choices), WALL, entropy))
    return token, verify_invite_chain(token.root_key, token.chain, WALL)


def request(token: Token, key: Ed25519PrivateKey) -> SignRequest:
    return SignRequest(joining_request(key, token.private_key(), token.mesh, "laptop"))


def granted(answer: SignGrant | SignRefusal | Relay) -> tuple[bytes, ...]:
    assert isinstance(answer, SignGrant), answer
    return tuple(answer.certificates)


def refused(answer: SignGrant | SignRefusal | Relay) -> SignRefusalCode:
    assert isinstance(answer, SignRefusal), answer
    return answer.code


# --- invites --------------------------------------------------------------------------------------------------------


def test_invite_says_who_is_invited(folder: NodeFolder, entropy) -> None:
    token, invited = invite(folder, entropy, uses=5, ttl_s=3600)

    assert (token.name, token.seeds, token.mesh) == ("lab mesh", SEEDS, folder.identity().mesh)
    assert (invited.operator, invited.roles) == ("lab", {Role.WORKER, Role.SUBMITTER})
    assert (invited.uses, invited.not_after) == (5, WALL + 3600)
    assert invited.issuer_node == folder.identity().name.node


def test_root_key_at_hand_lets_the_issuer_grant_a_new_operator(folder: NodeFolder, entropy) -> None:
    _, invited = invite(folder, entropy, operator="guests", roles=frozenset({Role.WORKER, Role.TRUSTED}))

    assert (invited.operator, invited.roles) == ("guests", {Role.WORKER, Role.TRUSTED})
    assert invite(folder, entropy)[1].operator == "lab", "what it could grant before, it still can"


def test_without_the_root_key_no_new_operator_and_no_trusted_node(folder: NodeFolder, entropy, tmp_path: Path) -> None:
    elsewhere = folder.root_key_file.rename(tmp_path / "root.key")

    for choices in ({"operator": "guests"}, {"roles": frozenset({Role.TRUSTED})}):
        with pytest.raises(GrantRefused, match="only the root key") as caught:
            invite(folder, entropy, **choices)
        assert caught.value.exit_code == os.EX_NOPERM

    invitation = Invitation(seeds=SEEDS, operator="guests")
    token = decode_token(make_invite(folder, invitation, WALL, entropy, load_key(elsewhere)))
    assert verify_invite_chain(token.root_key, token.chain, WALL).operator == "guests"


def test_root_key_of_another_mesh_is_refused(folder: NodeFolder, entropy) -> None:
    with pytest.raises(GrantRefused, match="another mesh"):
        make_invite(folder, Invitation(seeds=SEEDS, operator="guests"), WALL, entropy, joiner(1))


def test_node_that_is_no_issuer_can_not_invite(folder: NodeFolder, entropy) -> None:
    (folder.path / "issuer.pem").unlink()

    with pytest.raises(GrantRefused, match="no issuer"):
        invite(folder, entropy)


@pytest.mark.parametrize(
    "choices",
    [
        {"uses": 0},
        {"uses": 10_001},
        {"ttl_s": 1},
        {"ttl_s": 31 * 86_400},
        {"ttl_s": float("nan")},
        {"roles": frozenset()},
        {"roles": frozenset({Role.ISSUER})},
        {"operator": "two\nlines"},
        {"seeds": ()},
        {"seeds": ("a:1",) * 9},
    ],
)
def test_invitation_out_of_its_bounds_is_refused(choices: dict[str, object]) -> None:
    with pytest.raises(BadRequest) as caught:
        Invitation(**{"seeds": SEEDS, **choices})

    assert caught.value.exit_code == os.EX_USAGE


def test_operators_fill_an_issuers_certificate_with_a_clear_error(folder: NodeFolder, entropy) -> None:
    for number in range(20):
        invite(folder, entropy, operator=f"{number:03}" + "x" * 61)

    with pytest.raises(GrantRefused, match="full"):
        invite(folder, entropy, operator="ü" * 64)


# --- admission ------------------------------------------------------------------------------------------------------


def test_joiner_gets_what_its_invite_promised(folder: NodeFolder, entropy) -> None:
    token, invited = invite(folder, entropy)

    chain = granted(admission(folder, entropy).answer(invited, request(token, joiner(1)), WALL))

    proved = verify_node_chain(token.root_key, chain, WALL)
    assert (proved.key, proved.operator, proved.roles) == (joiner(1).public_key(), "lab", invited.roles)


def test_invite_is_used_up_by_other_keys_not_by_the_same(folder: NodeFolder, entropy) -> None:
    token, invited = invite(folder, entropy, uses=2)
    desk = admission(folder, entropy)
    first = granted(desk.answer(invited, request(token, joiner(1)), WALL))

    assert granted(desk.answer(invited, request(token, joiner(1)), WALL)) == first
    granted(desk.answer(invited, request(token, joiner(2)), WALL))
    assert refused(desk.answer(invited, request(token, joiner(3)), WALL)) is SignRefusalCode.USED_UP
    assert granted(desk.answer(invited, request(token, joiner(1)), WALL)) == first


def test_issuer_killed_between_counting_and_answering_gives_the_same_answer_later(folder: NodeFolder, entropy) -> None:
    """The certificate never left, but the use is on the disk: the same key gets it, another one does not."""
    token, invited = invite(folder, entropy)
    lost = granted(admission(folder, entropy).answer(invited, request(token, joiner(1)), WALL))

    restarted = admission(NodeFolder(folder.path), entropy)

    assert granted(restarted.answer(invited, request(token, joiner(1)), WALL)) == lost
    assert refused(restarted.answer(invited, request(token, joiner(2)), WALL)) is SignRefusalCode.USED_UP


def test_ledger_that_can_not_be_written_lets_nobody_in_and_costs_no_use(folder: NodeFolder, entropy) -> None:
    token, invited = invite(folder, entropy)
    desk = admission(folder, entropy)
    folder.ledger_file.mkdir()
    assert refused(desk.answer(invited, request(token, joiner(1)), WALL)) is SignRefusalCode.ISSUER_UNREACHABLE

    folder.ledger_file.rmdir()
    granted(desk.answer(invited, request(token, joiner(2)), WALL))


def test_damaged_ledger_is_an_error_that_names_it(folder: NodeFolder) -> None:
    folder.ledger_file.write_bytes(b"no database" * 1000)
    folder.ledger_file.chmod(0o600)

    with pytest.raises(FolderUnusable, match=r"invites\.sqlite"):
        Ledger(folder.ledger_file).uses(1)


def test_uses_are_kept_with_their_names_in_a_private_file(folder: NodeFolder, entropy) -> None:
    token, invited = invite(folder, entropy, uses=2)
    granted(admission(folder, entropy).answer(invited, request(token, joiner(1)), WALL))

    (use,) = Ledger(folder.ledger_file).uses(invited.serial)

    assert (use.label, use.key, use.used_at) == ("laptop", joiner(1).public_key().public_bytes_raw(), WALL)
    assert folder.ledger_file.stat().st_mode & 0o777 == 0o600


def test_another_issuer_process_that_writes_is_waited_for(folder: NodeFolder, entropy, monkeypatch) -> None:
    """And if it does not end, nobody is let in."""
    monkeypatch.setattr("meshd_node.identity.ledger._BUSY_S", 0.0)
    token, invited = invite(folder, entropy)
    Ledger(folder.ledger_file).uses(1)
    other = sqlite3.connect(folder.ledger_file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    answer = admission(folder, entropy).answer(invited, request(token, joiner(1)), WALL)

    other.close()
    assert refused(answer) is SignRefusalCode.ISSUER_UNREACHABLE


def test_invite_that_ended_lets_nobody_in(folder: NodeFolder, entropy) -> None:
    token, invited = invite(folder, entropy, ttl_s=3600)
    answer = admission(folder, entropy).answer(invited, request(token, joiner(1)), WALL + 3600 + 121)

    assert refused(answer) is SignRefusalCode.EXPIRED


def test_request_made_without_the_invites_key_is_refused(folder: NodeFolder, entropy) -> None:
    token, invited = invite(folder, entropy)
    forged = SignRequest(joining_request(joiner(1), joiner(2), token.mesh, "laptop"))

    assert refused(admission(folder, entropy).answer(invited, forged, WALL)) is SignRefusalCode.MALFORMED
    assert refused(admission(folder, entropy).answer(invited, SignRequest(b"x"), WALL)) is SignRefusalCode.MALFORMED


def test_issuer_whose_grant_was_narrowed_does_not_honour_older_invites(folder: NodeFolder, entropy) -> None:
    narrow = (folder.path / "issuer.pem").read_bytes()
    token, invited = invite(folder, entropy, operator="guests")
    (folder.path / "issuer.pem").write_bytes(narrow)

    answer = admission(folder, entropy).answer(invited, request(token, joiner(1)), WALL)

    assert refused(answer) is SignRefusalCode.NOT_GRANTABLE


# --- relaying and renewing ------------------------------------------------------------------------------------------


@pytest.fixture
def second(folder: NodeFolder, entropy, tmp_path: Path) -> NodeFolder:
    """A node of the mesh that is no issuer."""
    token, invited = invite(folder, entropy)
    second = NodeFolder(tmp_path / "second")
    second.prepare()
    key = second.node_key(entropy)
    chain = granted(admission(folder, entropy).answer(invited, request(token, key), WALL))
    second.become_node(folder.identity().facts, chain)
    return second


def proved(folder: NodeFolder):
    credentials = folder.identity().credentials
    return verify_node_chain(credentials.root_key, credentials.chain, WALL)


def test_seed_that_is_not_the_issuer_relays_to_it(folder: NodeFolder, second: NodeFolder, entropy) -> None:
    token, invited = invite(folder, entropy)

    relay = admission(second, entropy).answer(invited, request(token, joiner(1)), WALL)

    assert isinstance(relay, Relay)
    assert relay.issuer == folder.identity().name.node
    assert relay.unreachable().code is SignRefusalCode.ISSUER_UNREACHABLE
    chain = granted(admission(folder, entropy).answer_node(proved(second), relay.request, WALL))
    assert verify_node_chain(token.root_key, chain, WALL).key == joiner(1).public_key()


def test_seed_can_not_use_up_an_invite_that_it_relays(folder: NodeFolder, second: NodeFolder, entropy) -> None:
    token, invited = invite(folder, entropy)
    own = SignRequest(joining_request(joiner(66), joiner(67), token.mesh, "laptop"), invited.chain[0])
    desk = admission(folder, entropy)

    assert refused(desk.answer_node(proved(second), own, WALL)) is SignRefusalCode.MALFORMED
    granted(desk.answer(invited, request(token, joiner(1)), WALL))


def test_relayed_invite_of_another_issuer_is_refused(folder: NodeFolder, second: NodeFolder, entropy, tmp_path) -> None:
    other = NodeFolder(tmp_path / "other")
    init_mesh(other, Founding(mesh_name="x", operator="lab", node_name="x"), WALL, entropy)
    token, invited = invite(other, entropy)
    relayed = SignRequest(request(token, joiner(1)).request, invited.chain[0])
    peer = proved(second)

    assert refused(admission(folder, entropy).answer_node(peer, relayed, WALL)) is SignRefusalCode.NOT_GRANTABLE
    assert refused(admission(second, entropy).answer_node(peer, relayed, WALL)) is SignRefusalCode.NOT_GRANTABLE


def test_node_renews_under_its_own_name(folder: NodeFolder, second: NodeFolder, entropy) -> None:
    identity = second.identity()
    renewal = SignRequest(renewal_request(identity.credentials.key, identity.name, "laptop"))
    later = WALL + 40 * 86_400

    chain = granted(admission(folder, entropy).answer_node(proved(second), renewal, later))

    renewed = verify_node_chain(identity.credentials.root_key, chain, later)
    assert (renewed.node, renewed.operator, renewed.roles) == (
        identity.name.node,
        identity.name.operator,
        identity.name.roles,
    )
    assert renewed.not_after == later + 90 * 86_400
    second.install_certificate(chain)
    assert second.identity().credentials.chain == chain


def test_node_does_not_renew_for_another_key(folder: NodeFolder, second: NodeFolder, entropy) -> None:
    renewal = SignRequest(renewal_request(joiner(1), second.identity().name, "laptop"))

    answer = admission(folder, entropy).answer_node(proved(second), renewal, WALL)

    assert refused(answer) is SignRefusalCode.MALFORMED
