"""What `meshd install` and `uninstall` would do to a machine, read as a list of steps."""

import io
import socket
import sys
from pathlib import Path

import pytest

from meshd_node.cli.install import rehearse
from meshd_node.cli.main import run as meshd
from meshd_node.cli.output import Output
from meshd_node.cli.uninstall import uninstall
from meshd_node.installation import survey
from meshd_node.installation.places import FILES, FOLDER, GPU_SETTINGS, KEY, KEY_SETTINGS, SEALED_KEY
from meshd_node.installation.plans import Situation, installation, removal
from meshd_node.installation.steps import Run, StepFailed, Write, described, perform, run
from meshd_node.installation.units import InterpreterUnusable

NEW = Situation(interpreter="/opt/meshd/bin/python")


def lines(steps) -> list[str]:
    return [described(step) for step in steps]


def written(steps) -> set[Path]:
    return {step.path for step in steps if isinstance(step, Write)}


def test_a_first_installation_writes_all_files_and_waits_for_a_node() -> None:
    steps = list(installation(NEW))

    assert written(steps) == set(FILES.values())
    assert "systemctl enable meshd.service" in lines(steps)
    assert "systemctl enable --now meshd.service" not in lines(steps)


def test_a_node_is_started_last_and_with_its_sockets_there() -> None:
    told = lines(installation(Situation(interpreter="/opt/meshd/bin/python", is_node=True)))

    assert told[-2:] == [
        "systemctl enable --now meshd.socket meshd-exec.socket",
        "systemctl enable --now meshd.service",
    ]
    assert told.index("systemctl stop meshd.service") < told.index(
        f"chown --recursive --no-dereference meshd:meshd {FOLDER}"
    )


def test_a_folder_is_moved_whole_and_never_into_another() -> None:
    told = lines(
        installation(Situation(interpreter="/opt/meshd/bin/python", is_node=True, came_from=Path("/srv/node")))
    )

    assert f"mv --no-target-directory /srv/node {FOLDER}" in told


def test_the_key_is_removed_only_after_systemd_has_read_what_it_sealed() -> None:
    told = lines(installation(Situation(interpreter="/p", is_node=True, has_key_file=True, can_seal=True)))

    sealed = told.index(f"systemd-creds encrypt --name=node.key {KEY} {SEALED_KEY}")
    read = told.index(f"systemd-creds decrypt --name=node.key {SEALED_KEY}")
    assert sealed < read < told.index(f"rm {KEY}")
    assert any(line.startswith(f"write {KEY_SETTINGS}") for line in told)


@pytest.mark.parametrize(("has_key_file", "can_seal"), [(True, False), (False, True)])
def test_a_key_that_is_sealed_already_or_can_not_be_stays_where_it_is(has_key_file: bool, can_seal: bool) -> None:
    told = lines(installation(Situation(interpreter="/p", has_key_file=has_key_file, can_seal=can_seal)))

    assert not [line for line in told if "creds" in line or str(KEY) in line]


def test_gpus_are_opened_to_both_services_where_there_are_some() -> None:
    assert set(GPU_SETTINGS) <= written(installation(Situation(interpreter="/p", has_gpus=True)))
    assert f"rm -f {GPU_SETTINGS[0]}" in lines(installation(NEW))


def test_a_removal_gives_the_key_back_and_leaves_the_folder() -> None:
    told = lines(removal(sealed=True, purge=False))

    assert told[0] == "systemctl disable --now meshd.service meshd.socket meshd-exec.socket"
    returned = told.index(f"systemd-creds decrypt --name=node.key {SEALED_KEY} {KEY}")
    assert returned < next(number for number, line in enumerate(told) if line.startswith("rm -f"))
    assert not [line for line in told if line.startswith("rm -rf") or "userdel" in line]


def test_a_purge_removes_folder_and_users_last() -> None:
    told = lines(removal(sealed=True, purge=True))

    assert told[-3].startswith(f"rm -rf {FOLDER} ")
    assert told[-2:] == ["userdel meshd", "userdel meshd-exec"]
    assert not [line for line in told if "decrypt" in line]


def test_a_removal_leaves_what_the_operator_added() -> None:
    """`systemctl edit meshd` writes beside our settings: folders are removed if they are empty."""
    folders = [line for line in lines(removal(sealed=False, purge=False)) if ".service.d" in line.split()[-1]]

    assert [line.split()[:3] for line in folders] == [["rm", "-d", "-f"], ["rm", "-d", "-f"]]


def test_a_dry_run_says_each_step_and_does_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshd_node.cli.install.perform", lambda *_: pytest.fail("something was done"))
    monkeypatch.setattr("meshd_node.cli.uninstall.perform", lambda *_: pytest.fail("something was done"))
    out = io.StringIO()

    assert rehearse(Output(out), NEW, []) == 0
    assert uninstall(Output(out), sealed=False, purge=False, dry_run=True) == 0
    assert out.getvalue().splitlines() == [*lines(installation(NEW)), *lines(removal(sealed=False, purge=False))]


def test_a_dry_run_where_nothing_can_be_installed_shows_the_plan_and_all_that_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """From below /tmp or /root it printed no plan at all."""
    monkeypatch.setattr(survey, "closure", lambda: (Path("/root/venv"),))
    monkeypatch.setattr(survey, "_RUNNING", Path("/nowhere"))
    monkeypatch.setattr(survey, "FOLDER", tmp_path)

    code = meshd(["install", "--dry-run", "--keep-key", "--from", str(tmp_path / "none")])

    out, err = capsys.readouterr()
    assert code == survey.NoSystemd.exit_code
    assert "systemctl daemon-reload" in out.splitlines()
    told = err.splitlines()
    assert [line.split(":")[0] for line in told] == ["in the way"] * 3
    assert "systemd" in told[0]
    assert "/root/venv" in told[1]
    assert "no node in" in told[2]


def test_steps_are_told_before_they_are_done_and_end_at_the_first_that_fails(tmp_path: Path) -> None:
    told: list[str] = []
    steps = [Write(tmp_path / "d" / "unit", "a\nb\n"), run("sh", "-c", "echo no such luck >&2; exit 3"), run("true")]

    with pytest.raises(StepFailed, match="no such luck"):
        perform(steps, told.append)

    assert told == lines(steps[:2])
    assert told[0] == f"write {tmp_path}/d/unit (2 lines)"
    assert (tmp_path / "d" / "unit").read_text() == "a\nb\n"


def test_a_program_that_is_not_there_is_a_step_that_failed() -> None:
    with pytest.raises(StepFailed, match="/nowhere/program"):
        perform([Run(("/nowhere/program",))], lambda _: None)


def test_a_machine_without_systemd_is_told_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey.os, "geteuid", lambda: 0)
    monkeypatch.setattr(survey, "_RUNNING", Path("/nowhere"))

    with pytest.raises(survey.NoSystemd, match="not started by systemd") as refused:
        survey.require_systemd()
    assert "meshd up" in refused.value.hint


def test_only_root_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey.os, "geteuid", lambda: 1000)

    with pytest.raises(survey.NotRoot):
        survey.require_systemd()


def test_an_interpreter_that_services_can_not_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "closure", lambda: (Path("/usr"), Path("/home/ann/venv")))

    (refused,) = [each for each in survey.obstacles(None) if isinstance(each, InterpreterUnusable)]
    assert "/home/ann/venv" in str(refused)
    assert "/opt/meshd" in refused.hint


def test_a_folder_in_which_a_daemon_runs_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "FOLDER", tmp_path)
    monkeypatch.setattr(survey, "closure", lambda: ())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
        daemon.bind(str(tmp_path / "meshd.sock"))
        daemon.listen()
        assert survey.DaemonRuns in map(type, survey.obstacles(None))

    assert survey.DaemonRuns not in map(type, survey.obstacles(None))
    assert survey.surveyed(None, keep_key=True) == Situation(
        interpreter=sys.executable, has_gpus=Path("/dev/nvidiactl").exists()
    )


def test_the_meshs_root_key_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "ROOT_KEY", tmp_path / "root.key")
    survey.require_no_root_key()
    (tmp_path / "root.key").touch()

    with pytest.raises(survey.RootKeyThere, match="can not be made again"):
        survey.require_no_root_key()
