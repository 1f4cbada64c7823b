"""The script's first word: a verb, nothing, or something like a verb."""

import pytest

from meshd_node.cli.exits import Exit
from meshd_node.cli.main import run


def test_without_a_verb_it_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == Exit.USAGE
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: meshd")
    assert "cancel" in shown


def test_a_mistyped_verb_is_told_its_neighbour(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["statsu"]) == Exit.USAGE
    assert capsys.readouterr().err == "meshd: there is no verb 'statsu', did you mean 'status'? (see meshd --help)\n"


def test_help_names_every_verb_without_loading_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == Exit.OK
    shown = capsys.readouterr().out
    assert all(f"\n  {verb} " in shown for verb in ("demo", "init", "invite", "join", "up", "status", "peers", "jobs"))


@pytest.mark.parametrize("port", ["7701", "0"])
def test_a_bare_port_is_no_address(port: str, capsys, monkeypatch, tmp_path) -> None:
    """It was taken for a host, and the node that was founded could never listen."""
    monkeypatch.setenv("MESHD_DIR", str(tmp_path / "node"))
    assert run(["init", "--listen", port]) == Exit.CONFIG
    assert f"write HOST:PORT, 0.0.0.0:{port} for every interface" in capsys.readouterr().err
    assert not (tmp_path / "node").exists()
