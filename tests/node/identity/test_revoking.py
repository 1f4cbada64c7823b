"""Revocations on disk, and whom a folder's keys may revoke."""

import sqlite3
import stat
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.identity.admission import Admission
from meshd_node.identity.errors import BadRequest, FolderDamaged, FolderUnusable, GrantRefused
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.inviting import Invitation, make_invite
from meshd_node.identity.issuer import Issuer
from meshd_node.identity.revoked import RevokedFile
from meshd_node.identity.revoking import revoke_node
from meshd_protocol import limits
from meshd_protocol.certificates import Certified, verify_invite_chain, verify_node_chain
from meshd_protocol.ids import NodeId
from meshd_protocol.issuing import joining_request, renewal_request
from meshd_protocol.limits import REVOCATION_S
from meshd_protocol.messages.membership import SignedRevocation
from meshd_protocol.messages.peer import SignGrant, SignRefusal, SignRefusalCode, SignRequest
from meshd_protocol.records import Revocation
from meshd_protocol.revocations import verify_revocation
from meshd_protocol.tokens import decode_token

NODE = NodeId(bytes(range(20)))


def root_key_of(folder: NodeFolder) -> bytes:
    return folder.identity().credentials.root_key


def certified(folder: NodeFolder) -> Certified:
    credentials = folder.identity().credentials
    return verify_node_chain(credentials.root_key, credentials.chain, time.time())


# --- who may --------------------------------------------------------------------------------------------------------


def test_issuer_revokes_a_node_of_its_operator_without_the_root_key(mesh: NodeFolder) -> None:
    mesh.root_key_file.unlink()
    wall = time.time()

    record, signed = revoke_node(mesh, root_key_of(mesh), NODE, "lab", "laptop stolen", wall)

    assert verify_revocation(root_key_of(mesh), signed, wall) == record
    assert (record.node, record.operator, record.reason) == (NODE, "lab", "laptop stolen")
    assert record.until_ms == int((wall + REVOCATION_S) * 1_000)


def test_root_key_in_the_folder_revokes_what_the_issuer_may_not(mesh: NodeFolder) -> None:
    _, signed = revoke_node(mesh, root_key_of(mesh), NODE, "somebody else", "", time.time())

    assert signed.issuer == b"", "the root signed"


def test_issuer_of_another_operator_is_refused_and_told_what_to_do(mesh: NodeFolder) -> None:
    root_key = root_key_of(mesh)
    mesh.root_key_file.unlink()

    with pytest.raises(GrantRefused, match="may not revoke nodes of operator 'somebody else'") as refused:
        revoke_node(mesh, root_key, NODE, "somebody else", "", time.time())
    assert "issuer of that operator" in refused.value.hint


def test_node_that_is_no_issuer_is_refused(mesh: NodeFolder) -> None:
    root_key = root_key_of(mesh)
    mesh.root_key_file.unlink()
    (mesh.path / "issuer.pem").unlink()

    with pytest.raises(GrantRefused, match="no issuer"):
        revoke_node(mesh, root_key, NODE, "lab", "", time.time())


def test_root_key_of_another_mesh_revokes_nobody(mesh: NodeFolder, world, tmp_path) -> None:
    root_key = root_key_of(mesh)
    other = world.founded(tmp_path / "other", time.time(), seed=5)
    mesh.root_key_file.write_bytes(other.root_key_file.read_bytes())

    with pytest.raises(GrantRefused):
        revoke_node(mesh, root_key, NODE, "somebody else", "", time.time())


@pytest.mark.parametrize("reason", ["two\nlines", "\x1b[31mred", "x" * 201, "∀" * 200])
def test_reason_that_would_spoil_a_terminal_or_does_not_fit_is_refused(mesh: NodeFolder, reason: str) -> None:
    with pytest.raises(BadRequest):
        revoke_node(mesh, root_key_of(mesh), NODE, "lab", reason, time.time())


# --- what is kept ---------------------------------------------------------------------------------------------------


def revocation(number: int, until_ms: int = 5_000, operator: str = "lab") -> tuple[Revocation, SignedRevocation]:
    record = Revocation(bytes(20), NodeId(number.to_bytes(20, "big")), operator, until_ms, "")
    return record, SignedRevocation(b"%d until %d" % (number, until_ms), bytes(64), b"issuer")


def kept(file: RevokedFile) -> list[bytes]:
    return [signed.body for signed in file.load()]


def test_what_was_kept_is_there_after_a_restart_and_readable_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "revocations.sqlite"
    RevokedFile(path).keep([revocation(1), revocation(2)], wall=1.0)

    assert RevokedFile(path).load() == [revocation(1)[1], revocation(2)[1]]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_made_where_nobody_was_ever_revoked(tmp_path: Path) -> None:
    assert RevokedFile(tmp_path / "revocations.sqlite").load() == []
    assert list(tmp_path.iterdir()) == []


def test_of_two_for_one_node_and_operator_that_stays_which_ends_later(tmp_path: Path) -> None:
    file = RevokedFile(tmp_path / "revocations.sqlite")
    file.keep([revocation(1, 5_000)], wall=1.0)
    file.keep([revocation(1, 9_000), revocation(1, 7_000), revocation(1, 2_000, operator="other")], wall=1.0)

    assert sorted(kept(file)) == [b"1 until 2000", b"1 until 9000"]


def test_what_has_ended_is_dropped_with_the_next_write(tmp_path: Path) -> None:
    file = RevokedFile(tmp_path / "revocations.sqlite")
    file.keep([revocation(1, 5_000)], wall=1.0)
    file.keep([revocation(2, 9_000)], wall=6.0)

    assert kept(file) == [b"2 until 9000"]


def test_file_is_bounded_and_keeps_what_ends_last(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("meshd_node.identity.revoked.REVOCATIONS_MAX", 3)
    file = RevokedFile(tmp_path / "revocations.sqlite")
    for number in (5, 1, 4, 2, 3):
        file.keep([revocation(number, 5_000 + number)], wall=1.0)

    assert kept(file) == [b"3 until 5003", b"4 until 5004", b"5 until 5005"]
    assert limits.REVOCATIONS_MAX > 3


def test_full_file_does_not_forget_the_nodes_of_one_operator_for_those_of_another(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("meshd_node.identity.revoked.REVOCATIONS_MAX", 4)
    file = RevokedFile(tmp_path / "revocations.sqlite")
    file.keep([revocation(1, 5_000), revocation(2, 5_001)], wall=1.0)
    file.keep([revocation(number, 9_000 + number, operator="other") for number in range(10, 20)], wall=1.0)

    assert kept(file) == [b"1 until 5000", b"2 until 5001", b"18 until 9018", b"19 until 9019"]


def test_damaged_file_stops_the_start_rather_than_let_the_revoked_back_in(tmp_path: Path) -> None:
    path = tmp_path / "revocations.sqlite"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    path.chmod(0o600)

    with pytest.raises(FolderDamaged) as damaged:
        RevokedFile(path).load()
    assert "delete it" in damaged.value.hint
    with pytest.raises(FolderUnusable):
        RevokedFile(path).keep([revocation(1)], wall=1.0)


def test_crash_in_the_middle_of_a_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "revocations.sqlite"
    file = RevokedFile(path)
    file.keep([revocation(1)], wall=1.0)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    database.execute("DELETE FROM revocations")
    database.close()

    assert kept(file) == [b"1 until 5000"]


# --- what an issuer answers -----------------------------------------------------------------------------------------


def test_revoked_node_gets_no_new_certificate(mesh: NodeFolder, entropy) -> None:
    peer, identity = certified(mesh), mesh.identity()
    request = SignRequest(renewal_request(identity.credentials.key, identity.name, "first"))
    revoked: set[tuple[NodeId, str]] = set()
    issuer = Issuer(mesh, root_key_of(mesh), entropy, lambda node, operator: (node, operator) in revoked)

    assert isinstance(Admission(issuer).answer_node(peer, request, time.time()), SignGrant)
    revoked.add((peer.node, "another operator"))
    assert isinstance(Admission(issuer).answer_node(peer, request, time.time()), SignGrant)
    revoked.add((peer.node, "lab"))
    refused = Admission(issuer).answer_node(peer, request, time.time())

    assert isinstance(refused, SignRefusal)
    assert refused.code is SignRefusalCode.REVOKED
    assert "new token" in refused.reason


def test_invite_that_let_a_revoked_node_in_does_not_let_it_in_again(mesh: NodeFolder, entropy) -> None:
    """The same key and the same invite get the same certificate: that rule must not undo a revocation."""
    token = decode_token(make_invite(mesh, Invitation(seeds=("127.0.0.1:1",)), time.time(), entropy))
    invited = verify_invite_chain(token.root_key, token.chain, time.time())
    key = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
    request = joining_request(key, token.private_key(), token.mesh, "laptop")
    revoked: set[NodeId] = set()
    issuer = Issuer(mesh, root_key_of(mesh), entropy, lambda node, operator: node in revoked)
    granted = issuer.admit(invited, request, time.time())
    assert isinstance(granted, SignGrant)

    revoked.add(verify_node_chain(root_key_of(mesh), granted.certificates, time.time()).node)
    refused = issuer.admit(invited, request, time.time())

    assert isinstance(refused, SignRefusal)
    assert refused.code is SignRefusalCode.REVOKED
