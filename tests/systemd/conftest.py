"""A machine of its own: Debian with a real systemd as its first process, in namespaces, for as long as a test lasts."""

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from packaging.requirements import Requirement

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
# Debian's Python, of the minor version that the compiled packages of this environment are for.
SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
PACKAGES = ("systemd", "systemd-sysv", "python3", "python3-venv", "bubblewrap", "procps")
TOOLS = ("mmdebstrap", "systemd-nspawn", "nsenter", "unshare")
# One tree is made, and stays: it takes half a minute and a package index. Machines write beside it.
TREES = Path(tempfile.gettempdir()) / "meshd-systemd"
PATIENCE_S = 60.0
_POLL_S = 0.05

# nspawn wants groups of its own, and a /run/systemd to write to. Landlock is not among the calls that it knows.
_BOOT = """
set -eu
mount --make-rprivate /
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
for tree in /sys/fs/cgroup /sys/fs/cgroup/*/; do
    group="${tree%/}/$3"
    [ -e "$tree/cgroup.procs" ] && [ ! -L "${tree%/}" ] && mkdir "$group" 2>/dev/null || continue
    for file in cpuset.cpus cpuset.mems; do
        [ -e "$tree/$file" ] && cat "$tree/$file" >"$group/$file" 2>/dev/null || true
    done
    echo $$ >"$group/cgroup.procs" || true
done
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --boot --console=pipe \
    --system-call-filter='landlock_create_ruleset landlock_add_rule landlock_restrict_self' --directory "$2/root"
"""
# What nspawn covers of /proc would keep anybody from mounting another one, as cages do; a host covers nothing.
_UNCOVER = "awk '$2 ~ \"^/proc/\" {print $2}' /proc/mounts | sort -r | xargs -r -n1 umount --quiet --lazy || true"


def wait_for(look: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """Look until what is seen is true, and return it; fail with the last thing seen."""
    deadline = time.monotonic() + patience_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"after {patience_s} s still {seen!r}"
        time.sleep(_POLL_S)
    return seen


@dataclass
class Machine:
    """A machine that runs."""

    first: int
    # What the installation printed.
    said: str = ""

    def run(self, command: str, *, code: int = 0) -> str:
        """Run a line of shell as its root; return what it printed. It must end with this code."""
        enter = ["nsenter", "-t", str(self.first), "-m", "-u", "-i", "-n", "-p", "-C"]
        environment = {"PATH": "/opt/meshd/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8", "HOME": "/root"}
        done = subprocess.run(
            [*enter, "bash", "-c", f"cd /; {command}"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def python(self, program: str, user: str = "root") -> str:
        """Run a program of a user of it; return what it printed."""
        path = f"/opt/{abs(hash(program))}.py"
        self.write(path, program)
        return self.run(f"runuser -u {user} -- /opt/meshd/bin/python {path}")

    def upgrade(self, wheel: Path) -> None:
        """Install a wheel of ours over what is there."""
        self.write(f"/root/{wheel.name}", wheel.read_bytes())
        self.run(f"/opt/meshd/bin/pip install -q --no-index --upgrade /root/{wheel.name}")

    def show(self, unit: str, key: str) -> str:
        """What systemd says of a unit."""
        return self.run(f"systemctl show --value -p {key} {unit}")

    def journal(self) -> str:
        """All that was logged."""
        return self.run("journalctl --no-pager -o short-monotonic")

    def write(self, path: str, content: str | bytes) -> None:
        """Make a file in it."""
        data = content.encode() if isinstance(content, str) else content
        self.run(f"mkdir -p {Path(path).parent}")
        writer = ["nsenter", "-t", str(self.first), "-m", "tee", path]
        subprocess.run(writer, input=data, stdout=subprocess.DEVNULL, check=True)


@pytest.fixture(name="eventually", scope="session")
def _eventually() -> Callable[..., object]:
    """How tests wait for what is not there at once."""
    return wait_for


@pytest.fixture(name="build_wheel", scope="session")
def _build_wheel() -> Callable[[Path, Path], Path]:
    """How tests make wheels of other trees."""
    return build_wheel


@pytest.fixture(scope="session")
def tree() -> Path:
    """A Debian with systemd and this Python; skips where none can be made."""
    if os.geteuid() != 0:
        pytest.skip("only root boots a machine")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (apt install mmdebstrap systemd-container)")
    suite = SUITES.get(sys.version_info[:2])
    if suite is None:
        pytest.skip(f"no Debian has Python {sys.version_info.major}.{sys.version_info.minor}")
    made = TREES / suite
    if not made.exists():
        TREES.mkdir(exist_ok=True)
        beside = made.with_suffix(f".{os.getpid()}")
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(beside)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            shutil.rmtree(beside, ignore_errors=True)
            pytest.skip(f"no Debian could be fetched: {done.stderr[-300:]}")
        beside.rename(made)
    return made


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree as a wheel."""
    return build_wheel(REPOSITORY, tmp_path_factory.mktemp("wheel"))


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of a source tree; without the package index where what builds it is installed."""
    isolated = [] if importlib.util.find_spec("hatchling") is None else ["--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *isolated, "-w", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"no wheel could be built: {done.stderr[-300:]}")
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def machine(tree: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that has booted, with meshd installed for Python and not yet for systemd."""
    tmp_path = tmp_path_factory.mktemp("machine")
    for name in ("upper", "work", "root"):
        (tmp_path / name).mkdir()
    group = f"meshd-test-{os.getpid()}"
    log = (tmp_path / "console.log").open("wb")
    boot = subprocess.Popen(
        ["unshare", "-m", "bash", "-c", _BOOT, "boot", str(tree), str(tmp_path), group],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    first = 0
    try:
        first = wait_for(lambda: _first_process(boot))
        booted = Machine(first)
        wait_for(lambda: _has_booted(booted))
        booted.run(_UNCOVER)
        _install(booted, wheel)
        yield booted
    finally:
        if first:
            with suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
        else:
            boot.kill()
        boot.wait(PATIENCE_S)
        log.close()
        for folder in Path("/sys/fs/cgroup").glob(f"**/{group}"):
            _remove_groups(folder)
        shutil.rmtree(tmp_path, ignore_errors=True)


def _first_process(boot: "subprocess.Popen[bytes]") -> int:
    """The machine's systemd, as seen from here."""
    assert boot.poll() is None, "the machine did not boot: see console.log"
    with suppress(OSError):
        for child in Path(f"/proc/{boot.pid}/task/{boot.pid}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
    return 0


def _has_booted(machine: Machine) -> bool:
    try:
        return machine.run("systemctl is-system-running --wait") == "running"
    except AssertionError:
        return False


def _install(machine: Machine, wheel: Path) -> None:
    """Make the environment of the README, with the packages of this one in the place of the index."""
    machine.run("python3 -m venv /opt/meshd")
    packages = machine.run("/opt/meshd/bin/python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))'")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    files = sorted(_files_of(project["dependencies"]))
    site = Path(importlib.metadata.distribution("click").locate_file(""))
    with subprocess.Popen(
        ["tar", "-C", str(site), "-c", "--no-recursion", "-T", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as packer:
        unpacker = subprocess.Popen(
            ["nsenter", "-t", str(machine.first), "-m", "tar", "-C", packages, "-x", "--no-same-owner"],
            stdin=packer.stdout,
        )
        assert packer.stdin is not None
        packer.stdin.write("\n".join(files).encode())
        packer.stdin.close()
        assert unpacker.wait(PATIENCE_S) == 0
    machine.upgrade(wheel)


def _files_of(requirements: list[str]) -> set[str]:
    """The files of these packages and of all that they need, below the folder of packages."""
    files: set[str] = set()
    wanted, seen = list(requirements), set()
    while wanted:
        needed = Requirement(wanted.pop())
        if needed.name not in seen and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
            seen.add(needed.name)
            found = importlib.metadata.distribution(needed.name)
            wanted += found.requires or ()
            files |= {str(path) for path in found.files or () if ".." not in path.parts}
    return files


def _remove_groups(folder: Path) -> None:
    for below in sorted(folder.rglob("*/"), reverse=True):
        with suppress(OSError):
            below.rmdir()
    with suppress(OSError):
        folder.rmdir()
