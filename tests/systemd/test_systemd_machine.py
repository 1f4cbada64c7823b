"""meshd as the service of a machine that a real systemd has booted. Takes minutes, root and a Debian: see README."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshd_node import __version__

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

UNITS = ("meshd.service", "meshd.socket", "meshd-exec.service", "meshd-exec.socket")
NEXT = "99.0.0"
SQUARES = """
from meshd_sdk import Mesh
with Mesh() as mesh:
    print(sum(mesh.map(lambda x: x * x, range(1000), chunksize=50)))
"""
LOOK = """
import json, os
from meshd_sdk import Mesh
def look():
    import os, socket
    def can(path):
        try:
            open(path).read()
        except OSError:
            return False
        return True
    secrets = ("/var/lib/meshd/chain.pem", "/etc/shadow", "/run/credentials/meshd.service/node.key")
    return {
        "host": socket.gethostname(),
        "uid": os.getuid(),
        "read": [path for path in secrets if can(path)],
        "folders": os.listdir("/"),
        "first": open("/proc/1/cmdline").read(),
    }
with Mesh() as mesh:
    print(json.dumps(mesh.submit(look).result(30)))
"""
AGREE = """
from meshd_sdk import Mesh
with Mesh() as mesh:
    both = mesh.options(replicas=2, quorum=2)
    print(both.submit(pow, 3, 7).result(60))
"""
# Leaves a process that asks not to be ended, in a session of its own.
LEAVE = """
import sys
from meshd_sdk import Mesh
def leave():
    import os, signal, time
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    time.sleep(1000)
mesh = Mesh()
mesh.submit(leave)
sys.stdout.write("submitted")
sys.stdout.flush()
import os, time
time.sleep(1)
os._exit(0)
"""
ASK_FOR_CAGES = """
import socket
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
    try:
        sock.connect("/run/meshd-exec/warden.sock")
        print("connected")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def founded(machine: Any) -> Any:
    """The machine with a node of a mesh in the system's folder, and a user who may submit."""
    machine.run("meshd init --name lab --listen 127.0.0.1:7423")
    machine.said = machine.run("meshd install 2>&1")
    machine.run("useradd --create-home --groups meshd alice && useradd --create-home mallory")
    return machine


@pytest.fixture
def service(founded: Any, eventually: Callable[..., Any]) -> Any:
    """The node as a service that is ready, whatever the test before did to it."""
    founded.run("meshd drain --off || true; meshd install --keep-key" if _is_away(founded) else "true")
    eventually(lambda: _level(founded) == "strict")
    return founded


def _is_away(machine: Any) -> bool:
    return machine.show("meshd.service", "ActiveState") != "active"


def _level(machine: Any) -> str:
    """What the daemon has proved of its cages; nothing while it does not answer."""
    try:
        return str(json.loads(machine.run("meshd doctor --json", code=0))["level"])
    except (AssertionError, json.JSONDecodeError):
        return ""


def test_an_installation_starts_the_node_in_two_services_of_users_of_their_own(service) -> None:
    users = service.run("ps -o user:20= -p $(systemctl show --value -p MainPID meshd meshd-exec | xargs | tr ' ' ,)")

    assert users.split() == ["meshd", "meshd-exec"]
    assert "systemctl enable --now meshd.socket meshd-exec.socket" in service.said
    assert [service.show(unit, "ActiveState") for unit in UNITS] == ["active"] * 4
    assert service.run("systemctl is-enabled meshd.service meshd.socket meshd-exec.socket").split() == ["enabled"] * 3


def test_the_key_is_sealed_and_invites_are_made_without_it(service) -> None:
    """Who copies the disk's folder has no node: the key is with systemd, and nobody but the daemon is given it."""
    assert service.run("ls /var/lib/meshd/node.key 2>&1", code=2)
    assert "PRIVATE" not in service.run("cat /etc/credstore.encrypted/meshd.node.key")
    assert service.run("MESHD_DIR=/var/lib/meshd meshd invite 2>/dev/null").startswith("meshd")


def test_work_of_a_user_runs_in_a_strict_cage_that_has_neither_key_nor_host(service) -> None:
    found = json.loads(service.python(LOOK, "alice"))

    assert found["host"] == "cage"
    assert found["read"] == []
    assert not {"var", "run", "home", "root"} & set(found["folders"])
    assert "meshd_node.exec.zygote" in found["first"]


def test_a_second_node_joins_and_both_agree_on_a_result(service, eventually) -> None:
    token = service.run("MESHD_DIR=/var/lib/meshd meshd invite 2>/dev/null")
    second = "MESHD_DIR=/var/lib/second MESHD_SOCKET="
    service.run(f"{second} meshd join {token} --listen 127.0.0.1:7424 --node-name second")
    service.run(
        "systemd-run --quiet --unit=second --property=Delegate=yes --setenv=MESHD_DIR=/var/lib/second "
        "/opt/meshd/bin/meshd up"
    )
    eventually(lambda: service.run("meshd peers --json").count('"alive"') == 2)

    assert service.python(AGREE, "alice") == str(3**7)

    service.run("systemctl stop second")
    eventually(lambda: service.run("meshd peers --json").count('"alive"') == 1)


def test_a_daemon_that_is_killed_comes_back_and_works(service, eventually) -> None:
    before, socket = service.show("meshd", "MainPID"), service.run("stat -c %i /run/meshd/meshd.sock")
    warden = service.show("meshd-exec", "MainPID")
    restarts = int(service.show("meshd", "NRestarts"))
    service.run("systemctl kill --signal=KILL --kill-whom=main meshd")
    eventually(lambda: service.show("meshd", "MainPID") not in (before, "0"))

    # A program that comes meanwhile waits at the socket, which is still there.
    assert service.python(SQUARES, "alice") == str(sum(x * x for x in range(1000)))
    assert service.run("stat -c %i /run/meshd/meshd.sock") == socket
    assert int(service.show("meshd", "NRestarts")) == restarts + 1
    assert service.show("meshd-exec", "MainPID") != warden
    assert service.run(f"ps -o pid= -p {warden}", code=1) == ""


def test_a_warden_that_is_killed_is_replaced(service, eventually) -> None:
    warden = service.show("meshd-exec", "MainPID")
    service.run("systemctl kill --signal=KILL meshd-exec")
    eventually(lambda: service.show("meshd-exec", "MainPID") not in (warden, "0"))

    assert service.python(SQUARES, "alice") == str(sum(x * x for x in range(1000)))


def test_a_daemon_that_hangs_is_found_by_the_watchdog(service, eventually) -> None:
    service.write("/run/systemd/system/meshd.service.d/hasty.conf", "[Service]\nWatchdogSec=2\n")
    service.run("systemctl daemon-reload && systemctl restart meshd")
    before = service.show("meshd", "MainPID")
    service.run("systemctl kill --signal=STOP --kill-whom=main meshd")
    eventually(lambda: service.show("meshd", "MainPID") not in (before, "0"))

    assert "Watchdog timeout" in service.journal()

    service.run("rm /run/systemd/system/meshd.service.d/hasty.conf && systemctl daemon-reload")


def test_nothing_is_left_of_work_when_the_node_stops(service, eventually) -> None:
    service.run("sed -i '1i drain_s = 1.0' /var/lib/meshd/node.toml && systemctl restart meshd")
    eventually(lambda: _level(service) == "strict")
    service.python(LEAVE, "alice")
    service.run("systemctl stop meshd")
    eventually(lambda: service.show("meshd-exec", "ActiveState") == "inactive")

    assert service.run("ps -o args= -u meshd-exec,meshd", code=1) == ""
    assert service.show("meshd", "Result") == "success"

    service.run("sed -i 1d /var/lib/meshd/node.toml && systemctl start meshd")


@pytest.mark.parametrize("user", ["alice", "mallory"])
def test_nobody_but_the_daemon_can_ask_for_cages(service, user: str) -> None:
    """Whoever may submit is in the daemon's group: that must not be the way to cages without the daemon."""
    assert service.python(ASK_FOR_CAGES, user) == "PermissionError"


def test_who_is_not_in_the_group_can_not_submit(service) -> None:
    assert "group" in service.run("runuser -u mallory -- /opt/meshd/bin/meshd status 2>&1", code=69)


def test_an_upgrade_drains_first_and_keeps_the_node(service, eventually, next_wheel: Path) -> None:
    node = json.loads(service.run("meshd status --json"))
    assert node["version"] == __version__
    service.run("meshd drain --wait")
    service.upgrade(next_wheel)
    service.run("meshd install")
    eventually(lambda: _level(service) == "strict")
    upgraded = json.loads(service.run("meshd status --json"))

    assert (upgraded["version"], upgraded["node"]) == (NEXT, node["node"])
    assert upgraded["state"] != "draining"
    assert service.python(SQUARES, "alice") == str(sum(x * x for x in range(1000)))


def test_an_uninstallation_leaves_the_node_and_a_purge_leaves_nothing(service) -> None:
    node = json.loads(service.run("meshd status --json"))["node"]
    service.run("meshd uninstall")

    assert service.run("systemctl list-unit-files --no-legend 'meshd*'", code=1) == ""
    assert service.run("stat -c '%a %U' /var/lib/meshd/node.key") == "600 meshd"
    assert service.run("ls /etc/credstore.encrypted /etc/systemd/system | grep meshd", code=1) == ""

    service.run("meshd install --keep-key")
    assert json.loads(service.run("meshd status --json"))["node"] == node

    refused = service.run("meshd uninstall --purge 2>&1", code=73)
    assert "root key" in refused
    service.run("mv /var/lib/meshd/root.key /root/ && meshd uninstall --purge")
    assert service.run("ls -d /var/lib/meshd 2>&1", code=2)
    assert service.run("getent passwd meshd meshd-exec", code=2) == ""


@pytest.fixture(scope="module")
def next_wheel(tmp_path_factory: pytest.TempPathFactory, build_wheel: Callable[[Path, Path], Path]) -> Path:
    """The wheel of a release to come: this tree, and another number."""
    folder = tmp_path_factory.mktemp("next")
    here = Path(__file__).resolve().parents[2]
    for name in ("meshd", "protocol", "sdk", "systemd"):
        shutil.copytree(here / name, folder / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        shutil.copy(here / name, folder / "tree" / name)
    for name in ("pyproject.toml", "meshd/meshd_node/__init__.py"):
        file = folder / "tree" / name
        file.write_text(
            re.sub(rf'version(__)? = "{re.escape(__version__)}"', rf'version\1 = "{NEXT}"', file.read_text())
        )
    return build_wheel(folder / "tree", folder)
