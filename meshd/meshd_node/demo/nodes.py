"""Four nodes on loopback, each a daemon in a process and a folder of its own, as on four machines."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from meshd_node.cli.settings import write_settings
from meshd_node.errors import MeshdError
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.founding import Founding, init_mesh
from meshd_node.identity.inviting import Invitation, make_invite
from meshd_node.identity.joining import join_mesh
from meshd_sdk import Mesh

NAMES: Final = ("ada", "grace", "alan", "mallory")
LIAR: Final = "mallory"
_LISTEN: Final = "127.0.0.1:0"
# One worker each: the demo's machine has few CPUs, and four nodes share them.
_SETTINGS: Final = {"MESHD_LEND_SLOTS": "1", "MESHD_LOG_LEVEL": "error", "MESHD_DRAIN_S": "1"}
_START_S: Final = 15.0
_STOP_S: Final = 5.0


class DemoFailed(MeshdError):
    """Something that should work anywhere did not work here."""

    exit_code = 70


@dataclass(frozen=True, slots=True)
class Node:
    """One running daemon."""

    name: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        """Where programs reach it."""
        return self.folder / "meshd.sock"

    def stop(self) -> None:
        """Let it drain; kill it if it does not end."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def four_nodes() -> Iterator[list[Node]]:
    """Found a mesh, let three nodes join it with one token, have all four run until the end of the block."""
    with TemporaryDirectory(prefix="meshd-demo-") as scratch, ExitStack() as running:
        folders = {name: Path(scratch, name) for name in NAMES}
        first, *others = NAMES
        _found(folders[first], first)
        nodes = [_start(first, folders[first], running)]
        seed = _address_of(nodes[0])
        invitation = Invitation(seeds=(seed,), uses=len(others))
        token = make_invite(NodeFolder(folders[first]), invitation, time.time(), os.urandom)
        for name in others:
            settings = write_settings(folders[name], _LISTEN, ())
            join_mesh(NodeFolder(folders[name]), token, name, time.time(), os.urandom)
            settings()
            nodes.append(_start(name, folders[name], running))
        yield nodes


def _found(folder: Path, name: str) -> None:
    settings = write_settings(folder, _LISTEN, ())
    founding = Founding(mesh_name="demo", operator="demo", node_name=name)
    init_mesh(NodeFolder(folder), founding, time.time(), os.urandom)
    settings()


def _start(name: str, folder: Path, running: ExitStack) -> Node:
    # No setting makes a daemon lie: the liar is another program, which only the demo has.
    entry = "meshd_node.demo.liar_node" if name == LIAR else "meshd_node.demo.honest_node"
    environment = {**os.environ, **_SETTINGS, "MESHD_DIR": str(folder)}
    environment.pop("MESHD_SOCKET", None)
    process = subprocess.Popen(  # noqa: S603  # this interpreter, and a module of ours
        [sys.executable, "-m", entry], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    node = Node(name, folder, process)
    running.callback(node.stop)
    return node


def _address_of(node: Node) -> str:
    with _mesh_of(node) as mesh:
        return str(next(peer for peer in mesh.peers() if peer["self"])["addresses"][0])


def wait_for_all(nodes: list[Node]) -> None:
    """Wait until every node sees every other one alive."""
    deadline = time.monotonic() + _START_S
    for node in nodes:
        with _mesh_of(node) as mesh:
            while sum(peer["state"] == "alive" and peer["load"] is not None for peer in mesh.peers()) < len(nodes):
                if time.monotonic() > deadline:
                    raise DemoFailed(f"after {_START_S:.0f} s {node.name} does not see all {len(nodes)} nodes")
                time.sleep(0.02)


@contextmanager
def _mesh_of(node: Node) -> Iterator[Mesh]:
    deadline = time.monotonic() + _START_S
    while not node.socket.exists():
        if node.process.poll() is not None:
            raise DemoFailed(f"the daemon {node.name} ended with code {node.process.returncode}: see its words above")
        if time.monotonic() > deadline:
            raise DemoFailed(f"the daemon {node.name} is not ready after {_START_S:.0f} s")
        time.sleep(0.01)
    with Mesh(node.socket) as mesh:
        yield mesh
