"""Verbs against real daemons: what they print, in JSON and for people, and their exit codes (sysexits)."""

import json
import socket
import subprocess
import sys
import time

import pytest

from meshd_node.cli.main import run
from meshd_protocol.ids import ID_BYTES, to_text


@pytest.fixture
def meshd(standing, monkeypatch, capsys):
    """Run a verb in this process against the standing mesh's submitter; return exit code, output and errors."""
    monkeypatch.setenv("MESHD_DIR", str(standing[0].folder))

    def verb(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(list(arguments))
        return (code, *capsys.readouterr())

    return verb


@pytest.fixture
def script(standing):
    """The arguments of a process that runs a verb, with the environment of the standing mesh's submitter."""
    return {"args": [sys.executable, "-m", "meshd_node"], "env": standing[0].environment}


def test_every_node_learns_every_other(lab, until) -> None:
    nodes = lab.found(1, 1, 0, 1)

    for node in nodes:
        assert {peer["name"] for peer in node.peers()} == {"n0", "n1", "n2", "n3"}
        assert {tuple(peer["addresses"]) for peer in node.peers()} == {(each.address,) for each in nodes}


def test_peers_in_json_have_the_fields_that_scripts_rely_on(meshd) -> None:
    code, out, error = meshd("peers", "--json")
    rows = json.loads(out)

    assert (code, error, len(rows)) == (0, "", 3)
    for row in rows:
        assert {
            "node": str, "name": str, "state": str, "operator": str, "addresses": list, "roles": list, "cpus": float,
            "memory_bytes": int, "gpus": list, "load": float, "rtt_ms": float, "since": float, "version": str,
        }.items() <= {key: type(value) for key, value in row.items()}.items()  # fmt: skip
        assert row["state"] == "alive"
        assert row["roles"] == sorted(row["roles"])
        assert time.time() - 600 < row["since"] < time.time() + 1


def test_status_in_json_says_who_and_in_which_state(meshd, standing) -> None:
    code, out, _ = meshd("status", "--json")
    found = json.loads(out)

    assert code == 0
    assert (found["name"], found["mesh_name"], found["state"], found["peers"]) == ("n0", "lab", "ready", 2)
    assert {found["node"]} == {peer["node"] for peer in standing[1].peers() if peer["name"] == "n0"}
    assert found["version"]


def test_listings_for_people_name_everyone(meshd) -> None:
    _, out, _ = meshd("peers")

    assert [line.split()[1] for line in out.splitlines()[1:]] == ["n0", "n1", "n2"]
    assert "lab" in meshd("status")[1]


def test_a_job_is_listed_shown_and_cancelled(meshd, standing, until) -> None:
    with standing[0].mesh() as mesh:
        job = mesh.job(time.sleep, [60, 60], name="sleepers")
        row = next(row for row in json.loads(meshd("jobs", "--json")[1]) if row["id"] == job.id)
        assert (row["name"], row["units"], row["done"], row["failed"]) == ("sleepers", 2, 0, 0)
        assert job.id in meshd("jobs")[1]
        until(lambda: json.loads(meshd("job", job.id, "--json")[1])["running"] == 2)
        assert "sleepers" in meshd("job", job.id)[1]
        assert "running on" in meshd("job", job.id, "--unit", "0")[1]

        assert meshd("cancel", job.id)[:2] == (0, "")

        until(lambda: json.loads(meshd("job", job.id, "--json")[1])["state"] == "cancelled")
        assert meshd("cancel", job.id)[0] == 0, "to cancel twice is no error"


@pytest.mark.parametrize("verb", ["job", "cancel"])
@pytest.mark.parametrize("text", ["nonsense", "", to_text(bytes(ID_BYTES)), "ä" * 32])
def test_what_names_no_job_is_one_line_and_no_input(meshd, verb, text) -> None:
    code, out, error = meshd(verb, text)

    assert (code, out, error.count("\n")) == (66, "", 1), error


@pytest.mark.parametrize(
    "arguments", [("peers", "--jason"), ("no-such-verb",), ("job",), ("invite", "--ttl", "soon"), ("status", "extra")]
)
def test_a_typing_error_is_one_line_that_names_the_help(meshd, arguments) -> None:
    code, out, error = meshd(*arguments)

    assert (code, out, error.count("\n")) == (64, "", 1), error
    assert "--help" in error


@pytest.mark.parametrize("verb", [("status",), ("peers", "--json"), ("jobs",), ("cancel", to_text(bytes(ID_BYTES)))])
def test_without_a_daemon_a_verb_says_how_to_start_one(meshd, tmp_path, monkeypatch, verb) -> None:
    monkeypatch.setenv("MESHD_DIR", str(tmp_path))

    code, out, error = meshd(*verb)

    assert (code, out, error.count("\n")) == (69, "", 1)
    assert "meshd up" in error


@pytest.mark.parametrize("arguments", [("peers", "--json"), ("peers",), ("status",)])
def test_a_reader_that_has_enough_ends_a_verb_in_silence(script, arguments) -> None:
    with subprocess.Popen(
        [*script["args"], *arguments], env=script["env"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as verb:
        verb.stdout.close()
        error = verb.stderr.read()
        verb.stderr.close()

    assert (verb.returncode, error) == (0, b"")


def test_a_token_can_come_through_standard_input(script, shared_lab, standing, tmp_path) -> None:
    done = subprocess.run(
        [*script["args"], "join", "-"],
        input=shared_lab.invite(standing[0]) + "\n",
        env={**script["env"], "MESHD_DIR": str(tmp_path / "node")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


# --- `meshd up` that can not ------------------------------------------------------------------------------------------


@pytest.fixture
def up(lab):
    """A node that was never started, and what `meshd up` says in its folder."""
    node = lab.init(lab.node("node"))

    def start(**environment: str) -> tuple[int, str]:
        done = node.cli("up", **environment)
        assert done.stdout == ""
        return done.returncode, done.stderr

    return node, start


def test_up_without_a_node_says_how_to_make_one(lab) -> None:
    done = lab.node("empty").cli("up")

    assert (done.returncode, done.stderr.count("\n")) == (66, 1), done.stderr
    assert "meshd init" in done.stderr


def test_a_second_up_in_the_same_folder_leaves_the_first_alone(standing) -> None:
    done = standing[0].cli("up")

    assert (done.returncode, done.stderr.count("\n")) == (69, 1), done.stderr
    assert "another daemon listens at" in done.stderr
    assert standing[0].status()["state"] == "ready"


def test_a_port_that_is_taken_is_one_line(up) -> None:
    _, start = up
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, error = start(MESHD_LISTEN=f"127.0.0.1:{port}")

    assert (code, error.count("\n")) == (69, 1), error
    assert str(port) in error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour = 'red'", "colour"),
        ("[listen]\nport = 70000", "port"),
        ("[charter]\nslots = 'many'", "slots"),
        ("[executor]\nwindow_ms = 0", "window_ms"),
        ("not toml", "not TOML"),
        ("drain_s = -1", "drain_s"),
    ],
)
def test_a_config_that_can_not_be_used_is_one_line_that_names_the_place(up, text, words) -> None:
    node, start = up
    (node.folder / "node.toml").write_text(text)

    code, error = start()

    assert (code, error.count("\n")) == (78, 1), error
    assert words in error


def test_a_socket_path_that_is_too_long_is_one_line(up) -> None:
    code, error = up[1](MESHD_SOCKET="/tmp/" + "x" * 120)

    assert (code, error.count("\n")) == (78, 1), error
    assert "MESHD_SOCKET" in error


def test_a_socket_that_can_not_be_made_is_one_line(up, tmp_path) -> None:
    code, error = up[1](MESHD_SOCKET=str(tmp_path / "no-such-folder" / "s"))
    assert (code, error.count("\n")) == (73, 1), error

    (tmp_path / "file").write_text("precious")
    code, error = up[1](MESHD_SOCKET=str(tmp_path / "file"))
    assert (code, error.count("\n")) == (73, 1), error
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_that_others_may_read_is_refused_with_the_command_that_mends_it(up) -> None:
    node, start = up
    (node.folder / "node.key").chmod(0o644)

    code, error = start()

    assert (code, error.count("\n")) == (77, 1), error
    assert "chmod" in error


def test_a_damaged_folder_is_one_line(up) -> None:
    node, start = up
    (node.folder / "chain.pem").write_text("nonsense")

    code, error = start()

    assert (code, error.count("\n")) == (65, 1), error


def test_the_folder_must_be_one(tmp_path, lab) -> None:
    (tmp_path / "file").touch()
    node = lab.node("node")
    for verb, codes in (("init", (73, 74)), ("up", (78,))):
        done = node.cli(verb, MESHD_DIR=str(tmp_path / "file" / "below"))

        assert (done.returncode in codes, done.stderr.count("\n")) == (True, 1), done
