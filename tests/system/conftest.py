"""Real daemons in processes of their own on loopback, each with a folder, a log and a bound on every wait."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from meshd_node.cli.settings import write_settings
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.founding import Founding, init_mesh
from meshd_node.identity.inviting import Invitation, make_invite
from meshd_node.identity.joining import join_mesh
from meshd_protocol.ids import JobId, from_text
from meshd_protocol.messages.local import Ask, Question
from meshd_sdk import Mesh
from meshd_sdk.errors import MeshUnavailable

T = TypeVar("T")

# What a loaded machine may take for anything that should take a moment. Nothing waits so long unless it fails.
PATIENCE_S = 20.0
_POLL_S = 0.02
_LOG_TAIL = 6_000


def eventually(look: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """Look until what is seen is true, and return it; fail with the last thing seen."""
    deadline = time.monotonic() + patience_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"after {patience_s} s still {seen!r}"
        time.sleep(_POLL_S)
    return seen


@dataclass
class Node:
    """One node: its folder, and its daemon while one runs."""

    name: str
    folder: Path
    scratch: Path
    environment: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None
    known: dict[int, psutil.Process] = field(default_factory=dict)
    was_killed: bool = False

    @property
    def socket(self) -> Path:
        return self.folder / "meshd.sock"

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    @property
    def pid(self) -> int:
        assert self.process is not None, "the node was started"
        return self.process.pid

    @property
    def address(self) -> str:
        return next(str(peer["addresses"][0]) for peer in self.peers() if peer["self"])

    @property
    def id(self) -> str:
        return str(self.status()["node"])

    def start(self, **settings: str) -> "Node":
        """Start the daemon; `until_ready` waits for it."""
        environment = {**self.environment, **settings}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "meshd_node", "up"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C of a test is for the daemon that it is sent to
            )
        return self

    def until_ready(self) -> "Node":
        """Wait until programs are answered."""
        eventually(self._is_ready)
        return self

    def _is_ready(self) -> bool:
        assert self.process is not None, "the node was started"
        assert self.process.poll() is None, f"{self.name} ended with code {self.process.returncode}"
        try:
            return bool(self.peers())
        except MeshUnavailable:
            return False

    def signal(self, number: signal.Signals) -> "Node":
        """Send one signal to the daemon alone."""
        self.processes()
        os.kill(self.pid, number)
        return self

    def ended(self) -> int:
        """Wait for the daemon's end; return its exit code."""
        assert self.process is not None, "the node was started"
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        """Let it drain and end."""
        return self.signal(signal.SIGTERM).ended()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.was_killed = True
        self.signal(signal.SIGKILL).ended()

    def processes(self) -> list[psutil.Process]:
        """The daemon's processes that live now: itself, its warden, cages. All are remembered for the last check."""
        assert self.process is not None, "the node was started"
        try:
            daemon = psutil.Process(self.pid)
            found = [daemon, *daemon.children(recursive=True)]
        except psutil.NoSuchProcess:
            found = []
        self.known.update({process.pid: process for process in found})
        return found

    def warden(self) -> psutil.Process:
        """The process that makes its cages."""
        return next(each for each in self.processes() if _runs(each, "meshd_node.exec.warden"))

    def zygotes(self) -> list[psutil.Process]:
        """The first processes of its cages, blank ones among them."""
        cages = [each for each in self.processes() if _runs(each, "meshd_node.exec.zygote")]
        return [each for each in cages if _parent(each) not in {other.pid for other in cages}]

    def workers(self) -> list[psutil.Process]:
        """The workers that live now: the zygotes' children."""
        zygotes = {each.pid for each in self.zygotes()}
        return [each for each in self.processes() if _parent(each) in zygotes]

    def left_over(self) -> list[str]:
        """Processes of this node that still live."""
        return [str(process) for process in self.known.values() if _lives(process)]

    @contextmanager
    def mesh(self) -> Iterator[Mesh]:
        """A program's mesh. A test that fails inside does not wait for its units."""
        with Mesh(self.socket) as mesh:
            try:
                yield mesh
            except BaseException:
                mesh.shutdown(wait=False, cancel_futures=True)
                raise

    def why(self, job: str, unit: int) -> list[str]:
        """What it says of why a unit waits."""
        with self.mesh() as mesh:
            answer = mesh._session.ask(Ask(Question.WHY, JobId(from_text(job)), unit))
        return list(answer["why"])

    def status(self) -> dict[str, Any]:
        with self.mesh() as mesh:
            return mesh.status()

    def peers(self) -> list[dict[str, Any]]:
        with self.mesh() as mesh:
            return mesh.peers()

    def sees(self, state: str) -> int:
        """How many members it sees in this state, itself among them."""
        return sum(peer["state"] == state for peer in self.peers())

    def can_use(self) -> int:
        """How many nodes it could place work on now: those that told it what they take."""
        alive = [peer for peer in self.peers() if peer["state"] == "alive"]
        return sum(peer["granted"] is not None and peer["slots"] > 0 for peer in alive)

    def cli(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run one verb of the command line in this node's folder."""
        return run_meshd(*arguments, environment={**self.environment, **environment})

    def run_script(self, script: str) -> "subprocess.CompletedProcess[str]":
        """Run a program of a user of this node."""
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 2,
            check=False,
        )


def run_meshd(*arguments: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "meshd_node", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 2,
        check=False,
    )


class Lab:
    """Founds meshes on loopback. `open_folder` is one that workers of any user may write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []
        # Not below pytest's own folder: workers that run as another user have to enter it.
        self.open_folder = Path(tempfile.mkdtemp(prefix="meshd-test-"))
        self.open_folder.chmod(0o777)

    def node(self, name: str, **settings: str) -> Node:
        """A node's folder, nothing in it yet."""
        scratch = self.open_folder / f"scratch-{name}"
        scratch.mkdir()
        scratch.chmod(0o755)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MESHD_")}
        environment |= {
            "MESHD_DIR": str(self.folder / name),
            "MESHD_CHARTER_SLOTS": "1",
            # Units and tests tell each other things through files. What cages are for: test_caged_work.py.
            "MESHD_CAGE_OFF": "true",
            "MESHD_LOG_LEVEL": "debug",
            "MESHD_DRAIN_S": "10",
            "TMPDIR": str(scratch),
            **settings,
        }
        node = Node(name, self.folder / name, scratch, environment)
        self.nodes.append(node)
        return node

    def found(self, *slots: int, operators: tuple[str, ...] = (), **settings: str) -> list[Node]:
        """A running mesh of as many nodes as `slots` says, each of which can use each other one."""
        nodes = [
            self.node(f"n{number}", **{"MESHD_CHARTER_SLOTS": str(count), **settings})
            for number, count in enumerate(slots)
        ]
        self.init(nodes[0])
        nodes[0].start().until_ready()
        for number, node in enumerate(nodes[1:], 1):
            self.join(node, nodes[0], operators[number] if operators else None).start()
        for node in nodes:
            node.until_ready()
        lending = sum(count > 0 for count in slots)
        for node in nodes:
            eventually(lambda node=node: node.sees("alive") == len(nodes) and node.can_use() == lending)
        return nodes

    def init(self, node: Node) -> Node:
        settings = write_settings(node.folder, "127.0.0.1:0", ())
        founding = Founding(mesh_name="lab", operator="lab", node_name=node.name)
        init_mesh(NodeFolder(node.folder), founding, time.time(), os.urandom)
        settings()
        return node

    def invite(self, issuer: Node, operator: str | None = None, uses: int = 1, seeds: tuple[str, ...] = ()) -> str:
        invitation = Invitation(seeds=seeds or (issuer.address,), operator=operator, uses=uses)
        return make_invite(NodeFolder(issuer.folder), invitation, time.time(), os.urandom)

    def join(self, node: Node, issuer: Node, operator: str | None = None) -> Node:
        settings = write_settings(node.folder, "127.0.0.1:0", ())
        token = self.invite(issuer, operator)
        join_mesh(NodeFolder(node.folder), token, node.name, time.time(), os.urandom)
        settings()
        return node

    def close(self) -> list[str]:
        """End every daemon and say what it left behind."""
        running = [node for node in self.nodes if node.process is not None]
        for node in running:
            node.processes()
            if node.process is not None and node.process.poll() is None:
                node.process.terminate()
        left = []
        for node in running:
            left += self._end(node)
        shutil.rmtree(self.open_folder, ignore_errors=True)
        return left

    def _end(self, node: Node) -> list[str]:
        assert node.process is not None
        left = []
        try:
            code = node.process.wait(PATIENCE_S)
            if code == 0 and not node.was_killed:
                left += [f"{node.name} left {path}" for path in (node.socket, *node.scratch.iterdir()) if path.exists()]
        except subprocess.TimeoutExpired:
            left.append(f"{node.name} did not end within {PATIENCE_S} s")
            node.process.kill()
            node.process.wait()
        try:
            eventually(lambda: not node.left_over(), 5.0)
        except AssertionError:
            left += [f"{node.name} left {process}" for process in node.left_over()]
            for process in node.known.values():
                process.kill()
        return left


def logs_of(nodes: list[Node]) -> str:
    return "\n".join(
        f"--- {node.name} ---\n{node.log.read_text(errors='replace')[-_LOG_TAIL:]}"
        for node in nodes
        if node.log.exists()
    )


def _parent(process: psutil.Process) -> int:
    """Whose child a process is; 0 if it has just ended."""
    try:
        return int(process.ppid())
    except psutil.NoSuchProcess:
        return 0


def _runs(process: psutil.Process, module: str) -> bool:
    """Whether it is an interpreter of this module, or was forked from one; not a program that was told to start one."""
    try:
        command = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    return command[1:4] == ["-P", "-m", module]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> Iterator[None]:
    """Let a failed test show what its daemons said."""
    report = yield
    found = getattr(item, "funcargs", {})
    nodes = [*getattr(found.get("lab"), "nodes", ()), *found.get("standing", ())]
    if report.failed and nodes:
        report.sections.append(("the daemons' logs", logs_of(nodes)))
    return report


def _lab(folder: Path) -> Iterator[Lab]:
    lab = Lab(folder)
    yield lab
    left = lab.close()
    assert not left, "\n".join([*left, logs_of(lab.nodes)])


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Meshes of one test, whose daemons may be killed."""
    yield from _lab(tmp_path)


@pytest.fixture(scope="session")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """What the standing mesh lives in."""
    yield from _lab(tmp_path_factory.mktemp("standing"))


@pytest.fixture(scope="session")
def _standing(shared_lab: Lab) -> list[Node]:
    return shared_lab.found(0, 1, 1)


@pytest.fixture
def standing(_standing: list[Node], shared_lab: Lab) -> Iterator[list[Node]]:
    """A submitter that lends nothing and two nodes with one worker each, for tests that leave daemons alive."""
    for node in _standing:
        if node.process is not None and node.process.poll() is not None:  # a test before found out how to end it
            node.start().until_ready()
            eventually(lambda: all(each.can_use() == 2 for each in _standing))
    pids = [node.pid for node in _standing]
    yield _standing
    assert [(node.pid, node.process and node.process.poll()) for node in _standing] == [(pid, None) for pid in pids]


@pytest.fixture
def until() -> Callable[..., Any]:
    """`eventually`: look until it is true."""
    return eventually


@pytest.fixture
def lives() -> Callable[[psutil.Process], bool]:
    """Whether a process has not ended."""
    return _lives
