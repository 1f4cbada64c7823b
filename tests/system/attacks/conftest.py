"""A node that lends two workers to two submitters: an attacker on another node, and a neighbour on the node itself.

Daemons, wardens, cages and attacks are real. What an attack came to is a property of its test: `in_every_way.py`
makes the table of SECURITY.md from it.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from meshd_sdk import Mesh, Resources
from meshd_sdk.executor import MeshExecutor

PATIENCE_S = 20.0
# What an attacker asks for, and so is held to.
MEMORY = "256MiB"


@dataclass
class Arena:
    """The two nodes, a program connected to each, and what an attacker would like to reach."""

    lender: Any
    other: Any
    attacker: Mesh
    neighbour: Mesh
    targets: dict[str, Any] = field(default_factory=dict)
    keeps: frozenset[str] = frozenset()
    level: str = ""
    _executors: dict[float | None, MeshExecutor] = field(default_factory=dict)

    def attacks(self, timeout: float | None = None) -> MeshExecutor:
        """Where the attacker submits: each unit is tried once."""
        if timeout not in self._executors:
            options = self.attacker.options(retries=0, timeout=timeout, resources=Resources(memory=MEMORY))
            self._executors[timeout] = options
        return self._executors[timeout]

    def attack(self, fn: Callable[..., Any], *arguments: Any, timeout: float | None = None) -> "Future[Any]":
        """Submit an attack."""
        return self.attacks(timeout).submit(fn, *arguments)

    def tried(self, fn: Callable[..., Any], *arguments: Any) -> tuple[bool, str]:
        """Whether an attack was held, and what it met or reached: it raises `OSError` where it is refused."""
        try:
            said = self.attack(fn, *arguments).result(PATIENCE_S)
        except OSError as error:
            return True, f"{type(error).__name__}: {error}"
        return False, str(said)

    def failure(self, unit: "Future[Any]") -> str:
        """Why a unit failed, as its submitter is told."""
        error = unit.exception(PATIENCE_S)
        assert error is not None, f"it returned {unit.result()!r:.300}"
        return f"{type(error).__name__}: {error}"

    def serves(self) -> None:
        """The neighbour gets an answer."""
        assert self.neighbour.submit(pow, 3, 4).result(PATIENCE_S) == 81

    def until(self, look: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        """Look until what is seen is true, and return it."""
        return eventually(look, patience_s)


class Verdict:
    """What one attack came to."""

    def __init__(self, arena: Arena, record: Callable[[str, object], None]) -> None:
        self._arena = arena
        self._record = record

    def __call__(self, held: bool, said: object, kept_by: str = "") -> None:
        """Say whether it was held. It may not be where the node says that this layer is missing."""
        self._record("held", held)
        self._record("said", str(said)[:200])
        assert held or (kept_by and kept_by not in self._arena.keeps), f"it came through: {said}"


def eventually(look: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + patience_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"after {patience_s} s still {seen!r}"
        time.sleep(0.01)
    return seen


@contextmanager
def listening(arena: Arena, folder: Path) -> Iterator[dict[str, Any]]:
    """Servers of this machine that anybody else could reach, and everything that is the node's or the neighbour's."""
    token, path = str(arena.lender.environment["SECRET_OF_DAEMON"]), folder / "open.sock"
    with ExitStack() as stack:
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        for address in (str(path), f"\0{token}"):
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(address)
            server.listen()
        path.chmod(0o777)
        arena.neighbour.submit(hide_secret, f"secret-{token}", token).result(PATIENCE_S)
        (worker,) = arena.lender.workers()
        yield {
            "token": token,
            "daemon": arena.lender.pid,
            "warden": arena.lender.warden().pid,
            "tests": os.getpid(),
            "neighbour": worker.pid,
            "zygote": worker.ppid(),
            "folder": str(arena.lender.folder),
            "key": str(arena.lender.folder / "node.key"),
            "socket": str(arena.lender.socket),
            "scratch": str(arena.lender.scratch),
            "tcp": int(arena.lender.address.rpartition(":")[2]),
            "udp": udp.getsockname()[1],
            "path": str(path),
            "abstract": f"\0{token}",
        }


def hide_secret(name: str, text: str) -> None:
    """What the neighbour leaves in its scratch folder."""
    with open(name, "w") as file:
        file.write(text)


@pytest.fixture(scope="session")
def _arena(shared_lab: Any) -> Iterator[Arena]:
    settings = {"MESHD_CAGE_OFF": "false", "SECRET_OF_DAEMON": secrets.token_hex(16)}
    lender = shared_lab.node("lender", MESHD_CHARTER_SLOTS="2", **settings)
    shared_lab.init(lender).start().until_ready()
    other = shared_lab.node("other", MESHD_CHARTER_SLOTS="0", **settings)
    shared_lab.join(other, lender).start().until_ready()
    eventually(lambda: other.can_use() == 1 and lender.can_use() == 1)
    eventually(lambda: "not known" not in str(lender.status()["isolation"]))
    cage = lender.status()["cage"]
    if cage["level"] not in {"strict", "confined"}:
        pytest.skip("no cage holds for this user on this machine: `meshd doctor` says what is missing")
    with ExitStack() as stack:
        arena = Arena(lender, other, Mesh(other.socket), Mesh(lender.socket), level=cage["level"])
        arena.keeps = frozenset(layer["name"] for layer in cage["layers"] if layer["active"])
        for mesh in (arena.attacker, arena.neighbour):
            stack.callback(mesh.shutdown, wait=False, cancel_futures=True)
        arena.targets = stack.enter_context(listening(arena, shared_lab.open_folder))
        yield arena


@pytest.fixture
def arena(_arena: Arena) -> Iterator[Arena]:
    """After each attack the node is there as before, and serves the neighbour at once."""
    yield _arena
    _arena.serves()
    assert _arena.lender.process.poll() is None
    assert _arena.lender.warden().pid == _arena.targets["warden"], "the warden is the one that it was"


@pytest.fixture
def verdict(_arena: Arena, record_property: Callable[[str, object], None], request: pytest.FixtureRequest) -> Verdict:
    """Says what an attack came to."""
    record_property("level", _arena.level)
    record_property("isolation", _arena.lender.status()["isolation"])
    return Verdict(_arena, record_property)
