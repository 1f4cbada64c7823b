"""`init` and `invite` in this process: what they write, what they print where, how they refuse."""

import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meshd_node.cli.main import run
from meshd_node.identity.folder import NodeFolder
from meshd_protocol.certificates import verify_invite_chain
from meshd_protocol.names import Role
from meshd_protocol.tokens import Token, decode_token

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("MESHD_DIR", str(tmp_path / "node"))
    monkeypatch.delenv("MESHD_SOCKET", raising=False)
    return tmp_path / "node"


@pytest.fixture
def meshd(folder, capsys) -> Verb:
    """Run a verb; return exit code, output and errors."""

    def verb(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(list(arguments))
        return (code, *capsys.readouterr())

    return verb


@pytest.fixture
def founded(meshd: Verb) -> None:
    assert meshd("init", "--name", "lab", "--node-name", "ada", "--listen", "127.0.0.1:4321")[0] == 0


def token_of(printed: str) -> Token:
    assert printed.count("\n") == 1
    return decode_token(printed.strip())


def test_init_makes_a_folder_whose_secrets_nobody_else_reads(meshd, folder) -> None:
    code, out, note = meshd("init")

    assert (code, out) == (0, "")
    assert "meshd up" in note
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in ("node.key", "root.key", "issuer.key")} == {0o600}


def test_init_writes_into_the_config_what_was_said_and_nothing_else(meshd, folder, founded) -> None:
    text = (folder / "node.toml").read_text()
    settings = [line for line in text.splitlines() if line and not line.startswith("#")]

    assert settings == ["[listen]", 'host = "127.0.0.1"', "port = 4321"]


def test_init_that_is_refused_leaves_nothing(meshd, folder) -> None:
    assert meshd("init", "--listen", "nonsense:port")[0] == 78
    assert meshd("init", "--name", "")[0] != 0
    assert not (folder / "mesh.json").exists()


def test_a_second_init_changes_nothing(meshd, folder, founded) -> None:
    before = (folder / "root.key").read_bytes()

    assert meshd("init")[0] == 73
    assert (folder / "root.key").read_bytes() == before


def test_the_root_key_can_be_kept_off_the_node(meshd, folder, tmp_path) -> None:
    key = tmp_path / "stick" / "root.key"
    key.parent.mkdir(mode=0o700)
    assert meshd("init", "--listen", "127.0.0.1:4321", "--root-key", str(key))[0] == 0
    assert not (folder / "root.key").exists()

    code, out, error = meshd("invite", "--role", "trusted")
    assert (code, out, error.count("\n")) == (77, "", 1)
    assert "--root-key" in error
    code, out, _ = meshd("invite", "--role", "trusted,worker", "--root-key", str(key))

    assert code == 0
    token = token_of(out)
    assert verify_invite_chain(token.root_key, token.chain, time.time()).roles == {Role.TRUSTED, Role.WORKER}


def test_invite_prints_the_token_alone_and_says_the_rest_to_the_person(meshd, founded) -> None:
    code, out, note = meshd("invite", "--uses", "3", "--ttl", "30m")

    assert code == 0
    assert token_of(out).seeds == ("127.0.0.1:4321",)
    assert "3 machines" in note
    assert out.strip() not in note


def test_an_invite_is_for_the_nodes_own_operator_unless_it_says_another(meshd, folder, founded) -> None:
    for arguments, operator in (((), "lab"), (("--operator", "physics"), "physics")):
        token = token_of(meshd("invite", *arguments)[1])
        assert verify_invite_chain(token.root_key, token.chain, time.time()).operator == operator
    assert NodeFolder(folder).identity().name.operator == "lab"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--ttl", "1s"), 64),
        (("--ttl", "31d"), 64),
        (("--ttl", "-1h"), 64),
        (("--uses", "0"), 64),
        (("--uses", "1000000"), 64),
        (("--role", "king"), 64),
        (("--role", ""), 64),
        (("--role", "issuer"), 64),
        (("--root-key", "/nowhere/root.key"), 66),
    ],
)
def test_an_invite_out_of_bounds_is_one_line(meshd, founded, arguments, code) -> None:
    got, out, error = meshd("invite", *arguments)

    assert (got, out, error.count("\n")) == (code, "", 1), error


def test_a_node_on_any_free_port_can_not_be_named_in_a_token(meshd) -> None:
    assert meshd("init", "--listen", "127.0.0.1:0")[0] == 0
    code, out, error = meshd("invite")

    assert (code, out, error.count("\n")) == (78, "", 1)
    assert "listen.port" in error


def test_inviting_needs_a_node(meshd) -> None:
    code, out, error = meshd("invite")

    assert (code, out, error.count("\n")) == (66, "", 1)
    assert "meshd init" in error


def test_the_addresses_of_a_token_are_those_that_are_advertised(meshd) -> None:
    assert meshd("init", "--listen", "0.0.0.0:4321", "--advertise", "lab.example:99", "--advertise", "10.1.2.3")[0] == 0

    assert token_of(meshd("invite")[1]).seeds == ("lab.example:99", "10.1.2.3:4321")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("peers", "--help"), ("--version",)])
def test_help_and_version_go_to_standard_output(meshd, arguments) -> None:
    code, out, error = meshd(*arguments)

    assert (code in (0, 64), bool(out or error)) == (True, True)
    assert "meshd" in out + error
