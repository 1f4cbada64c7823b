"""The node's folder: what is in it, who may read it, and what a crash leaves."""

import json
import os
from pathlib import Path

import pytest

from meshd_node.errors import MeshdError
from meshd_node.identity import files
from meshd_node.identity.errors import (
    AlreadyANode,
    BadRequest,
    FolderDamaged,
    FolderForbidden,
    FolderMissing,
    FolderUnusable,
)
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.founding import Founding, init_mesh
from meshd_node.identity.renewal import renew_due_at
from meshd_protocol.certificates import Role, verify_issuer, verify_node_chain

WALL = 1_800_000_000.0
FOUNDING = Founding(mesh_name="lab mesh", operator="lab", node_name="first")


@pytest.fixture
def folder(tmp_path: Path) -> NodeFolder:
    return NodeFolder(tmp_path / "state" / "node")


def test_founded_mesh_verifies_from_its_root_key(folder: NodeFolder, entropy) -> None:
    identity = init_mesh(folder, FOUNDING, WALL, entropy)

    credentials = identity.credentials
    proved = verify_node_chain(credentials.root_key, credentials.chain, WALL)
    assert (proved.mesh, proved.node, proved.operator) == (identity.mesh, identity.name.node, "lab")
    assert Role.TRUSTED not in proved.roles
    assert Role.ISSUER in proved.roles
    assert credentials.key.public_key() == proved.key
    issuer = folder.issuer()
    assert issuer is not None
    assert verify_issuer(credentials.root_key, issuer[1], WALL).node == proved.node


def test_folder_and_all_files_are_private(folder: NodeFolder, entropy) -> None:
    init_mesh(folder, FOUNDING, WALL, entropy)

    assert folder.path.stat().st_mode & 0o777 == 0o700
    names = {path.name: path.stat().st_mode & 0o777 for path in folder.path.iterdir()}
    assert set(names) == {"mesh.json", "node.key", "chain.pem", "root.key", "issuer.key", "issuer.pem"}
    assert set(names.values()) == {0o600}


def test_root_key_can_be_kept_off_the_node(folder: NodeFolder, entropy, tmp_path: Path) -> None:
    elsewhere = tmp_path / "stick"
    founding = Founding(mesh_name="m", operator="lab", node_name="first", root_key_file=elsewhere)

    init_mesh(folder, founding, WALL, entropy)

    assert elsewhere.stat().st_mode & 0o777 == 0o600
    assert not folder.root_key_file.exists()


def test_second_init_is_refused_and_changes_nothing(folder: NodeFolder, entropy) -> None:
    init_mesh(folder, FOUNDING, WALL, entropy)
    before = {path: path.read_bytes() for path in folder.path.iterdir()}

    with pytest.raises(AlreadyANode) as caught:
        init_mesh(folder, FOUNDING, WALL, entropy)

    assert caught.value.exit_code == os.EX_CANTCREAT
    assert {path: path.read_bytes() for path in folder.path.iterdir()} == before


@pytest.mark.parametrize("crash_at", range(1, 7))
def test_init_that_was_killed_anywhere_can_be_repeated(folder: NodeFolder, entropy, crash_at: int, monkeypatch) -> None:
    """Whatever was written before the crash, the folder is no node, and the next init makes it one."""

    class Killed(BaseException):
        pass

    written, sync = [], os.fsync

    def fsync(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == crash_at:
            raise Killed
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fsync)
        with pytest.raises(Killed):
            init_mesh(folder, FOUNDING, WALL, entropy)

    assert not folder.is_node()
    assert init_mesh(folder, FOUNDING, WALL, entropy).facts.mesh_name == "lab mesh"


def test_empty_folder_is_told_apart_from_a_damaged_one(folder: NodeFolder, entropy) -> None:
    with pytest.raises(FolderMissing, match="there is no node") as caught:
        folder.identity()
    assert caught.value.exit_code == os.EX_NOINPUT
    assert "meshd init" in caught.value.hint

    init_mesh(folder, FOUNDING, WALL, entropy)
    (folder.path / "node.key").unlink()
    with pytest.raises(FolderDamaged, match=r"node\.key is gone"):
        folder.identity()


@pytest.mark.parametrize("name", ["node.key", "chain.pem", "mesh.json"])
def test_damaged_file_is_named(folder: NodeFolder, entropy, name: str) -> None:
    init_mesh(folder, FOUNDING, WALL, entropy)
    (folder.path / name).write_bytes(b"\x00garbage")

    with pytest.raises(FolderDamaged, match=name):
        folder.identity()


def test_unknown_facts_are_refused(folder: NodeFolder, entropy) -> None:
    init_mesh(folder, FOUNDING, WALL, entropy)
    facts = folder.path / "mesh.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "liar": True}))

    with pytest.raises(FolderDamaged, match="liar"):
        folder.identity()


def test_key_of_another_node_is_noticed(folder: NodeFolder, entropy, tmp_path: Path) -> None:
    init_mesh(folder, FOUNDING, WALL, entropy)
    other = NodeFolder(tmp_path / "other")
    other.prepare()
    other.node_key(entropy)
    (other.path / "node.key").replace(folder.path / "node.key")

    with pytest.raises(FolderDamaged, match="do not belong together"):
        folder.identity()


def test_key_that_others_can_read_is_not_used(folder: NodeFolder, entropy) -> None:
    init_mesh(folder, FOUNDING, WALL, entropy)
    (folder.path / "node.key").chmod(0o640)

    with pytest.raises(FolderForbidden, match="other users can read") as caught:
        folder.identity()

    assert caught.value.exit_code == os.EX_NOPERM
    assert caught.value.hint.startswith("chmod 600")


def test_path_that_is_a_file_is_one_clear_error(tmp_path: Path, entropy) -> None:
    (tmp_path / "file").write_text("")

    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FolderUnusable) as caught:
            init_mesh(NodeFolder(path), FOUNDING, WALL, entropy)
        assert caught.value.exit_code == os.EX_IOERR


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_of_another_user_is_one_clear_error(tmp_path: Path, entropy) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FolderForbidden, match="no permission"):
        init_mesh(NodeFolder(tmp_path / "node"), FOUNDING, WALL, entropy)


def test_root_key_file_in_a_folder_that_does_not_exist_is_one_clear_error(folder: NodeFolder, entropy) -> None:
    founding = Founding(mesh_name="m", operator="o", node_name="n", root_key_file=folder.path / "no" / "root.key")

    with pytest.raises(FolderMissing, match="does not exist"):
        init_mesh(folder, founding, WALL, entropy)


@pytest.mark.parametrize("operator", ["", "a" * 65, "two\nlines", " lab", "zero\u200bwidth"])
def test_name_that_could_be_misread_is_refused(operator: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Founding(mesh_name="m", operator=operator, node_name="n")

    assert caught.value.exit_code == os.EX_USAGE


def test_epoch_rises_with_every_start(folder: NodeFolder, entropy) -> None:
    init_mesh(folder, FOUNDING, WALL, entropy)

    assert [folder.next_epoch(), folder.next_epoch(), NodeFolder(folder.path).next_epoch()] == [1, 2, 3]


@pytest.mark.parametrize("text", [b"x", b"-1", b"99999999999", b"\xff"])
def test_damaged_epoch_is_refused_rather_than_begun_again(folder: NodeFolder, entropy, text: bytes) -> None:
    init_mesh(folder, FOUNDING, WALL, entropy)
    folder.next_epoch()
    (folder.path / "epoch").write_bytes(text)

    with pytest.raises(FolderDamaged, match="epoch"):
        folder.next_epoch()


def test_certificate_is_renewed_after_a_third_of_its_life(folder: NodeFolder, entropy) -> None:
    credentials = init_mesh(folder, FOUNDING, WALL, entropy).credentials
    certified = verify_node_chain(credentials.root_key, credentials.chain, WALL)

    assert WALL + 29 * 86_400 < renew_due_at(certified) < WALL + 31 * 86_400


def test_every_error_of_identities_has_an_exit_code_of_its_own_sort() -> None:
    from meshd_node.identity import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MeshdError)]

    assert all(64 <= kind.exit_code <= 78 for kind in kinds)
