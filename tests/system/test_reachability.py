"""`meshd netcheck` and `meshd lookup` against real daemons."""

import json
import subprocess
import sys

import pytest

from meshd_node.cli.exits import Exit
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


def test_node_that_others_reach_is_fine(meshd, standing) -> None:
    code, out, _ = meshd("netcheck", "--json")
    found = json.loads(out)

    assert (code, found["ok"]) == (0, True)
    assert [each["address"] for each in found["addresses"]] == [standing[0].address]
    assert {each["outcome"] for each in found["addresses"][0]["dialled_by"]} == {"reached"}
    assert {peer["name"] for peer in found["peers"]} == {"n1", "n2"}
    assert all(abs(peer["clock_ahead_s"]) < 5.0 for peer in found["peers"])
    assert "fine" in meshd("netcheck")[1]


def test_node_that_tells_a_wrong_address_learns_it(lab, until) -> None:
    """The commonest fault of all: what is advertised is not what is listened on."""
    first, wrong = lab.found(0, 0)
    wrong.stop()
    wrong.start(MESHD_LISTEN_ADVERTISE="127.0.0.1:1").until_ready()
    until(lambda: first.sees("alive") == 2 and wrong.sees("alive") == 2)

    ended = wrong.cli("netcheck")

    assert ended.returncode == Exit.FAILED
    assert "MEND" in ended.stdout
    assert "127.0.0.1:1: nobody listens there" in ended.stdout


def test_node_is_found_by_its_name_its_id_and_the_beginning_of_it(meshd, standing) -> None:
    identifier = standing[1].id

    for what in ("n1", identifier, identifier[:8], identifier.upper()):
        code, out, _ = meshd("lookup", what, "--json")
        entry = json.loads(out)["found"][0]
        assert (code, entry["node"], entry["name"]) == (0, identifier, "n1")
        assert entry["addresses"] == [standing[1].address]
    assert identifier in meshd("lookup", "n1")[1]


def test_job_is_found_at_its_owner(meshd, standing) -> None:
    with standing[0].mesh() as mesh:
        job = mesh.job(pow, [(2, 2)], name="found")
        code, out, _ = meshd("lookup", job.id, "--json")

    assert code == 0
    assert (json.loads(out)["found"][0]["kind"], json.loads(out)["found"][0]["node"]) == ("job", standing[0].id)


@pytest.mark.parametrize("what", ["nobody", to_text(bytes(ID_BYTES))])
def test_what_nobody_knows_is_one_line_and_code_69(meshd, what: str) -> None:
    code, out, error = meshd("lookup", what)

    assert (code, out) == (Exit.UNAVAILABLE, "")
    assert error.startswith("meshd: ")
    assert error.count("\n") == 1


def test_watching_into_a_pipe_prints_lines_and_ends_with_the_reader(standing) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "meshd_node", "peers", "--watch"],
        env=standing[0].environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        first = {watching.stdout.readline().split()[2] for _ in range(3)}
        watching.terminate()

    assert first == {"n0", "n1", "n2"}
