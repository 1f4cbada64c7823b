"""Joining over a real socket: one line joins, and each way to fail says which it is."""

import os
import socket
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from meshd_node.errors import MeshdError
from meshd_node.identity.errors import AlreadyANode, JoinRefused, NoSeedAnswered, TokenUnusable
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.inviting import Invitation, make_invite
from meshd_node.identity.joining import join_mesh
from meshd_protocol.certificates import verify_node_chain
from meshd_protocol.errors import CloseCode
from meshd_protocol.messages.peer import Close, Ping, SignGrant, SignRefusal, SignRefusalCode
from meshd_protocol.tokens import decode_token, encode_token


@pytest.fixture
def door(mesh: NodeFolder, world):
    """The first node's door."""
    with world.serving(world.Seed(mesh.identity(), world.admitting(mesh))) as seed:
        yield seed


def invite(folder: NodeFolder, entropy, *seeds: str, wall: float | None = None) -> str:
    return make_invite(folder, Invitation(seeds=seeds), time.time() if wall is None else wall, entropy)


def join(path: Path, token: str, entropy, wall: float | None = None) -> NodeFolder:
    folder = NodeFolder(path)
    join_mesh(folder, token, "laptop", time.time() if wall is None else wall, entropy)
    return folder


def failure(path: Path, token: str, entropy, wall: float | None = None) -> MeshdError:
    with pytest.raises(MeshdError) as caught:
        join(path, token, entropy, wall)
    assert not NodeFolder(path).is_node()
    return caught.value


def test_one_token_makes_a_node(mesh: NodeFolder, door, entropy, tmp_path: Path) -> None:
    identity = join(tmp_path / "new", invite(mesh, entropy, door.address), entropy).identity()

    credentials = identity.credentials
    proved = verify_node_chain(mesh.identity().credentials.root_key, credentials.chain, time.time())
    assert (proved.operator, proved.key) == ("lab", credentials.key.public_key())
    assert (identity.facts.mesh_name, identity.facts.node_name) == ("lab mesh", "laptop")
    assert identity.facts.seeds == [door.address]


def test_used_token_is_refused_as_used(mesh: NodeFolder, door, entropy, tmp_path: Path) -> None:
    token = invite(mesh, entropy, door.address)
    join(tmp_path / "one", token, entropy)

    error = failure(tmp_path / "two", token, entropy)

    assert isinstance(error, JoinRefused)
    assert "used once already" in str(error)
    assert error.exit_code == os.EX_NOPERM


def test_answer_lost_on_the_way_does_not_burn_the_token(mesh: NodeFolder, world, entropy, tmp_path: Path) -> None:
    """The issuer counted the use, the joiner never heard: the same line once more joins."""
    answer = world.admitting(mesh)

    def lose_the_first(invited, request):
        granted = answer(invited, request)
        return granted if seed.requests > 1 else Close(CloseCode.GOING_AWAY, "crash")

    with world.serving(world.Seed(mesh.identity(), lose_the_first)) as seed:
        token = invite(mesh, entropy, seed.address)
        assert "crash" in str(failure(tmp_path / "new", token, entropy))
        assert join(tmp_path / "new", token, entropy).is_node()


def test_second_seed_is_asked_when_the_first_is_down(mesh: NodeFolder, door, entropy, tmp_path: Path) -> None:
    assert join(tmp_path / "new", invite(mesh, entropy, closed_port(), door.address), entropy).is_node()


def test_second_seed_is_asked_when_the_first_can_not_reach_the_issuer(
    mesh: NodeFolder, door, world, entropy, tmp_path: Path
) -> None:
    def far(invited, request):
        return SignRefusal(SignRefusalCode.ISSUER_UNREACHABLE, "the issuer is away")

    with world.serving(world.Seed(mesh.identity(), far)) as seed:
        assert join(tmp_path / "a", invite(mesh, entropy, seed.address, door.address), entropy).is_node()
        error = failure(tmp_path / "b", invite(mesh, entropy, seed.address), entropy)
    assert isinstance(error, NoSeedAnswered)
    assert "the issuer is away" in str(error)


def test_seed_that_is_down_is_called_so(mesh: NodeFolder, entropy, tmp_path: Path) -> None:
    error = failure(tmp_path / "new", invite(mesh, entropy, closed_port()), entropy)

    assert isinstance(error, NoSeedAnswered)
    assert "nobody listens there" in str(error)
    assert error.exit_code == os.EX_UNAVAILABLE


def test_seed_of_another_mesh_never_sees_the_request(mesh: NodeFolder, world, entropy, tmp_path: Path) -> None:
    other = world.founded(tmp_path / "other", time.time(), seed=77)
    with world.serving(world.Seed(other.identity(), world.admitting(other))) as seed:
        error = failure(tmp_path / "new", invite(mesh, entropy, seed.address), entropy)

    assert "not of the token's mesh" in str(error)
    assert seed.requests == 0


def test_something_that_is_not_meshd_is_called_so(mesh: NodeFolder, entropy, tmp_path: Path, world) -> None:
    class Web(world.Seed):
        def run(self) -> None:
            connection, _ = self._listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(4096)

    with world.serving(Web(mesh.identity(), world.admitting(mesh))) as seed:
        error = failure(tmp_path / "new", invite(mesh, entropy, seed.address), entropy)

    assert "something else than meshd" in str(error)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Ping(), "it sent a Ping"),
        (Close(CloseCode.NOT_ALLOWED, "go away"), "hung up .not_allowed.: go away"),
        (SignRefusal(SignRefusalCode.REVOKED, "you were revoked"), "refuses: you were revoked"),
        (SignGrant([b"x"]), "can not be used"),
    ],
)
def test_odd_answer_is_one_clear_error(mesh: NodeFolder, world, entropy, tmp_path, message, words: str) -> None:
    with world.serving(world.Seed(mesh.identity(), lambda _invited, _request: message)) as seed:
        error = failure(tmp_path / "new", invite(mesh, entropy, seed.address), entropy)

    with pytest.raises(MeshdError, match=words):
        raise error


def test_certificate_for_another_key_is_not_taken(mesh: NodeFolder, world, entropy, tmp_path: Path) -> None:
    def own(_invited, _request):
        return SignGrant(list(mesh.identity().credentials.chain))

    with world.serving(world.Seed(mesh.identity(), own)) as seed:
        error = failure(tmp_path / "new", invite(mesh, entropy, seed.address), entropy)

    assert "not what the token promised" in str(error)


def test_clocks_that_differ_are_named_before_anything_is_asked(mesh: NodeFolder, world, entropy, tmp_path) -> None:
    with world.serving(world.Seed(mesh.identity(), world.admitting(mesh), wall=time.time() + 7200)) as seed:
        error = failure(tmp_path / "new", invite(mesh, entropy, seed.address), entropy)

    assert "s behind the seed's: set the clocks" in str(error)
    assert seed.requests == 0


def test_token_that_ended_is_refused_without_asking_anybody(mesh: NodeFolder, door, entropy, tmp_path: Path) -> None:
    token = invite(mesh, entropy, door.address)

    error = failure(tmp_path / "new", token, entropy, wall=time.time() + 2 * 86_400)

    assert isinstance(error, JoinRefused)
    assert "out of date" in str(error)
    assert "clock" in error.hint
    assert door.requests == 0


def test_token_that_ended_by_the_seeds_clock_alone_is_called_so(world, entropy, tmp_path: Path) -> None:
    """The joiner's clock is two days late, so its own check passes; the seed's TLS refuses, and says why."""
    late = time.time() - 2 * 86_400
    mesh = world.founded(tmp_path / "old", late - 86_400)
    with world.serving(world.Seed(mesh.identity(), world.admitting(mesh))) as seed:
        error = failure(tmp_path / "new", invite(mesh, entropy, seed.address, wall=late), entropy, wall=late)

    assert "by its clock this token is out of date" in str(error)
    assert seed.requests == 0


@pytest.mark.parametrize("change", ["root", "key", "issuer"])
def test_forged_token_is_refused_without_asking_anybody(mesh, door, entropy, tmp_path: Path, change: str) -> None:
    """Its checks hold, since the forger made them."""
    token = decode_token(invite(mesh, entropy, door.address))
    forged = {
        "root": replace(token, root_key=bytes(31) + b"\x01"),
        "key": replace(token, key=bytes(32)),
        "issuer": replace(token, issuer=token.invite),
    }[change]

    error = failure(tmp_path / "new", encode_token(forged), entropy)

    assert isinstance(error, TokenUnusable)
    assert error.exit_code == os.EX_DATAERR
    assert door.requests == 0


def test_text_that_is_no_token_leaves_no_folder_behind(entropy, tmp_path: Path) -> None:
    error = failure(tmp_path / "new", "meshd1-AAAA", entropy)

    assert isinstance(error, TokenUnusable)
    assert not (tmp_path / "new").exists()


def test_node_does_not_join_twice(mesh: NodeFolder, door, entropy) -> None:
    with pytest.raises(AlreadyANode):
        join_mesh(mesh, invite(mesh, entropy, door.address), "laptop", time.time(), entropy)


def closed_port() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"
