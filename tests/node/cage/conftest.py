"""Real cages, made by root and by an ordinary user; a maker that does not work here is skipped with what it says.

A cage with everything that work may try (`deeds.py`) runs once for each user and maker; the tests look at its outcomes.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import meshd_node
import meshd_protocol
from meshd_node.exec.cage.closure import closed_to_others, closure

HERE = Path(__file__).parent
PACKAGES = [str(Path(package.__file__).parent.parent) for package in (meshd_node, meshd_protocol)]
ORDINARY_UID = 64_000
LIMITS = {"pids": 40, "scratch_bytes": 16 << 20, "open_files": 128, "file_bytes": 4 << 20, "memory_bytes": 1 << 30}
# Deeds run in these alone: where there is no cage, root would do them all.
WITH_A_ROOT = ("bubblewrap", "bubblewrap-nested-users", "bubblewrap-by-root", "namespaces", "namespaces-by-root")
CAGES = (*WITH_A_ROOT, "confined")


@dataclass(frozen=True)
class Warden:
    """Who makes cages in a test, and with which maker."""

    user: str
    maker: str

    def run(self, code: str, **given: Any) -> dict[str, Any]:
        """Run a program in a cage of its own."""
        process = self.start(code, **given)
        said, errors = process.communicate(timeout=40)
        assert process.returncode == 0, errors
        return json.loads(said)

    def start(self, code: str, *, targets: Any = None, leave: str = "", limits: Any = None) -> "subprocess.Popen[str]":
        asked = {"maker": self.maker, "code": code, "targets": targets or {}, "leave": leave}
        asked["limits"] = {**LIMITS, **(limits or {})}
        uid = ORDINARY_UID if self.user == "ordinary" and os.geteuid() == 0 else None
        process = subprocess.Popen(
            [_interpreter(self), "-P", str(HERE / "warden_of_tests.py")],
            env={"PYTHONPATH": ":".join(PACKAGES), "PATH": os.defpath, "SECRET_OF_DAEMON": "not for work"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(asked))
        process.stdin.close()
        process.stdin = None
        return process


@cache
def _interpreter(warden: Warden) -> str:
    """One that the cage's user can come to; the tests' own may lie in root's home, where only root finds it."""
    if os.geteuid() != 0 or warden.maker.endswith("by-root") or closed_to_others([*closure(), HERE]) is None:
        return sys.executable
    system = shutil.which("python3", path=os.defpath)
    asked = [system or "", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if (
        system is None
        or closed_to_others([*map(Path, PACKAGES), HERE])
        or subprocess.run(asked, check=False).returncode
    ):
        pytest.skip("an ordinary user can not come to this interpreter, and there is no other of 3.11")
    return system


@cache
def _trial(warden: Warden) -> str:
    """What keeps a maker from working here; empty if it works."""
    if warden.maker.startswith("bubblewrap") and shutil.which("bwrap", path=os.defpath) is None:
        return "bubblewrap (bwrap) is not installed"
    end = warden.run("import os; os._exit(7)")
    return "" if end["code"] == 7 else end["stderr"].strip() or f"it ended with {end['code']}"


def _wardens(makers: tuple[str, ...]) -> list[Warden]:
    return [
        Warden(user, maker)
        for user in ("root", "ordinary")
        for maker in makers
        if not (maker.endswith("by-root") and user == "ordinary") and not (maker == "namespaces" and user == "root")
    ]


def _working(request: pytest.FixtureRequest) -> Warden:
    warden: Warden = request.param
    if warden.user == "root" and os.geteuid() != 0:
        pytest.skip("the tests do not run as root")
    missing = _trial(warden)
    if missing:
        pytest.skip(f"{warden.maker} does not work here for {warden.user}: {missing}")
    return warden


def _name(warden: Warden) -> str:
    return f"{warden.maker}-as-{warden.user}"


@pytest.fixture(scope="session", params=_wardens(CAGES), ids=_name)
def warden(request: pytest.FixtureRequest) -> Warden:
    """Every maker of cages."""
    return _working(request)


@pytest.fixture(scope="session", params=_wardens(WITH_A_ROOT), ids=_name)
def warden_with_namespaces(request: pytest.FixtureRequest) -> Warden:
    """Makers whose cages have namespaces and a root of their own."""
    return _working(request)


@pytest.fixture(scope="session", params=_wardens(("confined",)), ids=_name)
def warden_without_namespaces(request: pytest.FixtureRequest) -> Warden:
    return _working(request)


@pytest.fixture(scope="session", params=_wardens(("plain",)), ids=_name)
def warden_without_cages(request: pytest.FixtureRequest) -> Warden:
    return _working(request)


@pytest.fixture(scope="session")
def targets() -> Iterator[dict[str, Any]]:
    """What a cage must not reach, though users of this host can."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    secret = folder / "secret"
    secret.write_text("the host's")
    secret.chmod(0o644)
    path = str(folder / "socket")
    abstract = f"meshd-test-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as by_path,
        socket.socket(socket.AF_UNIX) as by_name,
    ):
        for sock, address in ((by_path, path), (by_name, "\0" + abstract)):
            sock.bind(address)
            sock.listen()
        Path(path).chmod(0o777)
        yield {"secret": str(secret), "socket": path, "abstract": abstract, "port": tcp.getsockname()[1]}
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def outcome_of(targets: dict[str, Any]) -> Any:
    """The outcome of a deed in a warden's cage."""
    code = (HERE / "deeds.py").read_text()
    deeds = [line[4:].split("(")[0] for line in code.splitlines() if line.startswith("def ") and "() -> " in line]

    @cache
    def outcomes(warden: Warden) -> dict[str, Any]:
        end = warden.run(code, targets={**targets, "deeds": [deed for deed in deeds if deed != "main"]})
        assert end["code"] == 0, end
        return json.loads(end["said"])

    return lambda warden, deed: outcomes(warden)[deed]
