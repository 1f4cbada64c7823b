"""Tokens, good and bad, at the doors of real daemons; every verb as a person runs it."""

import os
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from meshd_node.cli.main import run
from meshd_node.identity.acquaintances import Acquaintances
from meshd_node.identity.folder import NodeFolder
from meshd_node.net.tls import Credentials, client_context, server_context
from meshd_protocol.tokens import Token, decode_token, encode_token


@pytest.fixture
def meshd(monkeypatch, capsys, tmp_path):
    """Run a verb in this process, in a folder; return its exit code, output and errors."""

    def in_folder(folder: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("MESHD_DIR", str(folder))
        capsys.readouterr()
        code = run(list(arguments))
        return (code, *capsys.readouterr())

    return in_folder


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_five_commands_of_the_readme_make_a_mesh(lab, meshd, until) -> None:
    first, second = lab.node("first"), lab.node("second")
    port = free_port()

    code, out, _ = meshd(first.folder, "init", "--name", "lab", "--node-name", "ada", "--listen", f"127.0.0.1:{port}")
    assert (code, out) == (0, "")
    first.start().until_ready()
    code, token, note = meshd(first.folder, "invite")
    assert (code, token.count("\n"), decode_token(token.strip()).seeds) == (0, 1, (f"127.0.0.1:{port}",))
    assert "one machine" in note
    code, out, note = meshd(second.folder, "join", token.strip(), "--node-name", "grace", "--listen", "127.0.0.1:0")
    assert (code, out) == (0, "")
    assert "joined mesh lab as grace of operator lab: submitter, worker" in note
    second.start().until_ready()

    until(lambda: first.sees("alive") == second.sees("alive") == 2)
    assert {peer["name"] for peer in first.peers()} == {"ada", "grace"}


def test_nodes_find_each_other_again_though_the_one_that_invited_them_is_gone(lab, until) -> None:
    """They knew the token's seed alone, and sat there each by itself after a restart."""
    first, second, third = (lab.node(name, MESHD_LISTEN=f"127.0.0.1:{free_port()}") for name in ("a", "b", "c"))
    lab.init(first).start().until_ready()
    for node in (second, third):
        lab.join(node, first).start().until_ready()
    until(lambda: all(len(Acquaintances(node.folder / "acquaintances.json").read()) == 2 for node in (second, third)))

    first.kill()
    for node in (second, third):
        assert node.stop() == 0
        node.start().until_ready()

    until(lambda: second.can_use() == third.can_use() == 2)


def test_a_token_lets_in_as_many_as_it_says_and_no_more(standing, shared_lab, tmp_path, meshd) -> None:
    token = shared_lab.invite(standing[0])

    assert meshd(tmp_path / "a", "join", token)[0] == 0
    code, out, error = meshd(tmp_path / "b", "join", token)

    assert (code, out) == (77, "")
    assert "used once already" in error
    assert "meshd invite" in error
    assert error.count("\n") == 1
    assert not NodeFolder(tmp_path / "b").is_node()


def test_a_folder_that_is_a_node_stays_what_it_is(standing, shared_lab, meshd) -> None:
    token = shared_lab.invite(standing[0])
    before = sorted((path.name, path.read_bytes()) for path in standing[1].folder.iterdir() if path.is_file())

    assert meshd(standing[1].folder, "join", token)[0] == 73
    assert meshd(standing[1].folder, "init")[0] == 73
    assert sorted((path.name, path.read_bytes()) for path in standing[1].folder.iterdir() if path.is_file()) == before


def test_a_seed_that_did_not_make_the_token_relays_to_the_one_that_did(standing, shared_lab, tmp_path, meshd) -> None:
    token = shared_lab.invite(standing[0], seeds=(standing[2].address,))

    code, _, note = meshd(tmp_path / "node", "join", token)

    assert (code, "joined mesh lab" in note) == (0, True), note


def test_a_seed_that_can_not_reach_the_issuer_says_so(lab, meshd) -> None:
    issuer, seed = lab.found(0, 0)
    token = lab.invite(issuer, seeds=(seed.address,))
    issuer.kill()

    code, _, error = meshd(lab.folder / "node", "join", token)

    assert code == 69
    assert "the issuer's node is not reachable from here" in error
    assert error.count("\n") == 1


def test_without_a_seed_that_is_up_the_token_keeps_its_use(standing, shared_lab, tmp_path, meshd) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    token = decode_token(shared_lab.invite(standing[0], seeds=(nowhere,)))

    code, _, error = meshd(tmp_path / "node", "join", encode_token(token))
    assert (code, f"{nowhere}: nobody listens there" in error) == (69, True), error

    mended = Token(token.name, token.root_key, (standing[0].address,), token.invite, token.issuer, token.key)
    assert meshd(tmp_path / "node", "join", encode_token(mended))[0] == 0


@pytest.mark.parametrize(
    ("garbage", "code"), [("hello", 65), ("meshd1-AAAA", 65), ("meshd9-AAAA", 65), ("", 65), ("x" * 10_000, 65)]
)
def test_what_is_no_token_is_one_line_and_touches_nothing(tmp_path, meshd, garbage, code) -> None:
    got, out, error = meshd(tmp_path / "node", "join", garbage)

    assert (got, out, error.count("\n")) == (code, "", 1)
    assert not (tmp_path / "node" / "mesh.json").exists()


def test_a_token_with_one_wrong_character_is_refused(standing, shared_lab, tmp_path, meshd) -> None:
    token = shared_lab.invite(standing[0])
    wrong = token[:40] + ("A" if token[40] != "A" else "B") + token[41:]

    assert meshd(tmp_path / "node", "join", wrong)[0] == 65


def test_a_token_with_another_meshs_root_proves_nothing(standing, shared_lab, tmp_path, meshd) -> None:
    """A forger changes whom the joiner believes, and the check sums with it."""
    token = decode_token(shared_lab.invite(standing[0]))
    forged = Token(token.name, os.urandom(32), token.seeds, token.invite, token.issuer, token.key)

    code, _, error = meshd(tmp_path / "node", "join", encode_token(forged))

    assert (code, "was not made by its mesh" in error) == (65, True), error


def test_the_seed_of_another_mesh_lets_nobody_in(standing, shared_lab, lab, meshd) -> None:
    (stranger,) = lab.found(0)
    ours = decode_token(shared_lab.invite(standing[0]))
    astray = Token(ours.name, ours.root_key, (stranger.address,), ours.invite, ours.issuer, ours.key)

    code, _, error = meshd(lab.folder / "node", "join", encode_token(astray))

    assert (code, "not of the token's mesh" in error) == (69, True), error
    assert stranger.sees("alive") == 1


def test_a_token_that_has_ended_is_refused_before_anybody_is_asked(
    standing, shared_lab, tmp_path, meshd, monkeypatch
) -> None:
    token = shared_lab.invite(standing[0])
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3 * 24 * 3_600)

    code, _, error = meshd(tmp_path / "node", "join", token)

    assert (code, "this token is out of date" in error) == (77, True), error


@pytest.mark.parametrize("who", ["nobody", "a node of another mesh"])
def test_a_stranger_gets_an_alert_and_never_a_frame(standing, lab, who) -> None:
    if who == "nobody":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["meshd/1"])
    else:
        other = NodeFolder(lab.init(lab.node("other")).folder).identity().credentials
        context = client_context(other)
        context.verify_mode = ssl.CERT_NONE
    got = b""
    with socket.create_connection(("127.0.0.1", port_of(standing[0].address)), 10) as connection:
        try:
            with context.wrap_socket(connection) as tls:
                while data := tls.recv(1 << 16):
                    got += data
            ended = "without an alert"
        except ssl.SSLError as error:
            ended = str(error).lower()

    assert got == b""
    assert "alert" in ended


def test_a_door_that_lies_about_who_it_is_learns_nothing_of_the_joiner(
    standing, shared_lab, lab, tmp_path, meshd
) -> None:
    """Whoever takes over a seed's address gets no request, which could be used at the real door."""
    other = NodeFolder(lab.init(lab.node("other")).folder).identity().credentials
    context = server_context(Credentials(other.root_key, other.chain, other.key))
    context.verify_mode = ssl.CERT_NONE
    with socket.create_server(("127.0.0.1", 0)) as door:
        seed = f"127.0.0.1:{door.getsockname()[1]}"
        token = decode_token(shared_lab.invite(standing[0], seeds=(seed,)))

        heard: list[bytes | ssl.SSLError] = []

        def serve() -> None:
            connection, _ = door.accept()
            connection.settimeout(10)
            with connection:
                try:
                    with context.wrap_socket(connection, server_side=True) as tls:
                        heard.append(tls.recv(1 << 16))
                except OSError as error:
                    heard.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        code = meshd(tmp_path / "node", "join", encode_token(token))[0]
        thread.join()

    assert code == 69
    assert isinstance(heard[0], OSError)
