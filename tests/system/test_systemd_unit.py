"""The files of systemd/ as systemd's own tools read them, and as the code relies on them."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from meshd_node.config import NodeConfig
from meshd_node.errors import ConfigError

FOLDER = Path(__file__).resolve().parents[2] / "systemd"
UNIT = FOLDER / "meshd.service"


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def service() -> dict[str, str]:
    """The [Service] section; of keys that stand there twice, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(UNIT)
    return dict(parser["Service"])


def test_systemd_accepts_the_unit() -> None:
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", str(UNIT)], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_accepts_the_user() -> None:
    done = subprocess.run(
        [tool("systemd-sysusers"), "--dry-run", str(FOLDER / "meshd.sysusers")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_every_line_of_the_tmpfiles_names_a_folder_of_the_service() -> None:
    lines = [line.split() for line in (FOLDER / "meshd.tmpfiles").read_text().splitlines() if line[:1] not in ("#", "")]

    assert [line[:5] for line in lines] == [
        ["d", "/var/lib/meshd", "0700", "meshd", "meshd"],
        ["d", "/run/meshd", "0755", "meshd", "meshd"],
    ]


def test_the_service_runs_as_its_own_user_and_says_when_it_is_ready() -> None:
    settings = service()

    assert settings["Type"] == "notify"
    assert settings["User"] == "meshd"
    assert settings["StateDirectory"] == "meshd"
    assert settings["RuntimeDirectory"] == "meshd"
    assert settings["Restart"] == "on-failure"


def test_systemd_waits_longer_than_a_drain_takes() -> None:
    assert float(service()["TimeoutStopSec"]) > NodeConfig(socket=Path("/run/meshd/meshd.sock")).drain_s


def test_a_config_that_can_not_be_used_is_not_started_again_and_again() -> None:
    assert str(ConfigError.exit_code) in service()["RestartPreventExitStatus"].split()
