"""The files of systemd/ as systemd's own tools read them, and as the code relies on them."""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from meshd_node.app.run import LOCAL_SOCKET
from meshd_node.config import NodeConfig
from meshd_node.errors import ConfigError
from meshd_node.exec.warden.service import WARDEN_SOCKET
from meshd_node.installation.places import FILES, FOLDER
from meshd_node.installation.units import GPU_TEXT, InterpreterUnusable, unit_texts
from meshd_node.places import node_folder, socket_path, warden_path
from meshd_sdk.location import _OF_THE_SYSTEM

UNITS = ("meshd.service", "meshd.socket", "meshd-exec.service", "meshd-exec.socket")
SERVICES = ("meshd.service", "meshd-exec.service")
EXPOSURE_MAX = 1.5


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def settings(name: str) -> dict[str, str]:
    """The keys of a unit; of those that stand there twice, all values."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in unit_texts(sys.executable)[FILES[name]].splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return {key: " ".join(values) for key, values in found.items()}


def environment() -> dict[str, str]:
    return dict(word.split("=", 1) for word in settings("meshd.service")["Environment"].split())


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the units as they are installed for this interpreter."""
    texts = unit_texts(sys.executable)
    for name, target in FILES.items():
        (tmp_path / name).write_text(texts[target])
    return tmp_path


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_the_unit(unit: str, installed: Path) -> None:
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", str(installed / unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", SERVICES)
def test_systemd_finds_little_that_the_unit_could_do_without(unit: str, installed: Path) -> None:
    done = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=true", "--no-pager", str(installed / unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze can not look at files: it is older than 250")
    (level,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)

    assert float(level) <= EXPOSURE_MAX, done.stdout


def test_systemd_accepts_the_users(installed: Path) -> None:
    done = subprocess.run(
        [tool("systemd-sysusers"), "--dry-run", str(installed / "meshd.sysusers")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_the_daemon_has_no_way_to_make_a_cage_and_the_warden_none_to_the_network_or_the_key() -> None:
    daemon, warden = settings("meshd.service"), settings("meshd-exec.service")

    assert daemon["RestrictNamespaces"] == "yes"
    assert daemon["MemoryDenyWriteExecute"] == "yes"
    assert warden["PrivateNetwork"] == "yes"
    assert "AF_INET" not in warden["RestrictAddressFamilies"]
    assert str(FOLDER) in warden["InaccessiblePaths"].replace("-/", "/").split()
    for unit in (daemon, warden):
        assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ""
        assert unit["NoNewPrivileges"] == "yes"
        assert unit["KillMode"] == "control-group"
    assert daemon["User"] != warden["User"]


def test_cages_get_groups_of_their_own_from_systemd() -> None:
    assert set(settings("meshd-exec.service")["Delegate"].split()) == {"cpu", "memory", "pids"}


def test_nobody_but_the_daemons_user_may_open_the_wardens_socket() -> None:
    """Its group would not do: those who may submit work are in it."""
    socket = settings("meshd-exec.socket")

    assert (socket["SocketUser"], socket["SocketMode"]) == ("meshd", "0600")
    assert settings("meshd.service")["User"] == socket["SocketUser"]
    assert settings("meshd-exec.service")["ExecStart"].split()[-1] == socket["SocketUser"]


def test_who_is_handed_a_socket_looks_for_it_by_the_name_that_it_has() -> None:
    assert settings("meshd.socket")["FileDescriptorName"] == LOCAL_SOCKET
    assert settings("meshd-exec.socket")["FileDescriptorName"] == WARDEN_SOCKET


def test_daemon_programs_and_warden_mean_the_same_places() -> None:
    environ = environment()
    listening = settings("meshd.socket")["ListenStream"]

    assert node_folder(environ, 1000) == FOLDER
    assert str(socket_path(FOLDER, environ)) == listening
    assert listening in _OF_THE_SYSTEM
    assert str(warden_path(environ)) == settings("meshd-exec.socket")["ListenSequentialPacket"]
    assert f"/var/lib/{settings('meshd.service')['StateDirectory']}" == str(FOLDER)


def test_the_daemon_says_when_it_is_ready_and_that_it_lives() -> None:
    service = settings("meshd.service")

    assert service["Type"] == "notify"
    assert float(service["WatchdogSec"]) > 0
    assert service["Restart"] == "on-failure"


def test_systemd_waits_longer_than_a_drain_takes() -> None:
    drain_s = NodeConfig(socket=Path("/run/meshd/meshd.sock")).drain_s

    assert float(settings("meshd.service")["TimeoutStopSec"]) > drain_s


def test_a_config_that_can_not_be_used_is_not_started_again_and_again() -> None:
    assert str(ConfigError.exit_code) in settings("meshd.service")["RestartPreventExitStatus"].split()


def test_every_line_of_the_tmpfiles_names_a_folder_of_the_services() -> None:
    text = unit_texts(sys.executable)[FILES["meshd.tmpfiles"]]
    lines = [line.split() for line in text.splitlines() if line[:1] not in ("#", "")]

    assert [line[:5] for line in lines] == [
        ["d", str(FOLDER), "0700", "meshd", "meshd"],
        ["d", "/run/meshd", "0755", "root", "root"],
        ["d", "/run/meshd-exec", "0755", "root", "root"],
    ]


def test_both_services_run_the_interpreter_that_installs_them() -> None:
    texts = unit_texts("/srv/meshd/bin/python")

    for unit in SERVICES:
        assert "\nExecStart=/srv/meshd/bin/python -P -m meshd_node" in texts[FILES[unit]]


@pytest.mark.parametrize("path", ["/srv/my meshd/python", "/srv/100%/python", "/srv/$HOME/python", '/srv/"/python'])
def test_an_interpreter_whose_path_systemd_would_read_otherwise_is_refused(path: str) -> None:
    with pytest.raises(InterpreterUnusable, match="reads in a way of its own"):
        unit_texts(path)


def test_a_machine_with_gpus_opens_their_device_files_and_no_others() -> None:
    assert settings("meshd-exec.service")["DevicePolicy"] == "closed"
    assert all("nvidia" in line for line in GPU_TEXT.splitlines() if line.startswith("DeviceAllow="))
