"""Four nodes on loopback, each a daemon in a process and a folder of its own, as on four machines."""

import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd_node.cli.settings import write_settings
from meshd_node.demo.errors import DemoFailed
from meshd_node.demo.signals import undisturbed
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.founding import Founding, init_mesh
from meshd_node.identity.inviting import Invitation, make_invite
from meshd_node.identity.joining import join_mesh
from meshd_node.places import SOCKET_PATH_BYTES_MAX
from meshd_sdk import Mesh

NAMES: Final = ("ada", "grace", "alan", "mallory")
LIAR: Final = "mallory"
_LISTEN: Final = "127.0.0.1:0"
# One worker each: the demo's machine has few CPUs, and four nodes share them.
_SETTINGS: Final = {"MESHD_CHARTER_SLOTS": "1", "MESHD_LOG_LEVEL": "error", "MESHD_DRAIN_S": "1"}
# What would make a daemon of the demo another one than that of the next user: its settings, and systemd's socket.
_NOT_INHERITED: Final = ("MESHD_", "NOTIFY_SOCKET", "WATCHDOG_")
_START_S: Final = 15.0
_STOP_S: Final = 5.0
_WORDS_SHOWN: Final = 2_000


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its folder, and its daemon."""

    name: str
    folder: Path
    log: Path
    process: "subprocess.Popen[bytes]"

    @property
    def mesh(self) -> Mesh:
        """A program's view of the mesh from this node."""
        return Mesh(self.folder / "meshd.sock")

    def check(self) -> None:
        """Raise `DemoFailed` with the daemon's own words if it has ended."""
        code = self.process.poll()
        if code is not None:
            raise DemoFailed(f"the daemon of {self.name} ended with code {code}{self._words()}")

    def await_ready(self) -> None:
        """Wait until the daemon says that it is."""
        assert self.process.stdout is not None, "it was started with a pipe"
        if not select.select([self.process.stdout], [], [], _START_S)[0]:
            raise DemoFailed(f"the daemon of {self.name} is not ready after {_START_S:.0f} s{self._words()}")
        if not self.process.stdout.readline():
            self.process.wait(_STOP_S)
            self.check()

    def stop(self) -> None:
        """Wait for the daemon, which was told to end; kill it if it does not."""
        with self.process:  # closes the pipe
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def _words(self) -> str:
        words = self.log.read_text(errors="replace")[-_WORDS_SHOWN:].strip()
        return f"; it said:\n{words}" if words else ", and said nothing"


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder below which everything of the demo lies, and which goes with it."""
    base = Path(tempfile.mkdtemp(prefix="meshd-demo-"))
    try:
        longest = len(os.fsencode(base / max(NAMES, key=len) / "meshd.sock"))
        if longest > SOCKET_PATH_BYTES_MAX:
            raise DemoFailed(
                f"the folder for temporary files has too long a path: {base}", "set TMPDIR to a shorter one"
            )
        base.chmod(0o711)  # workers that run as another user pass through it
        yield base
    finally:
        with undisturbed():
            shutil.rmtree(base, ignore_errors=True)


@contextmanager
def daemons() -> Iterator[list[Node]]:
    """A place for daemons, all of which are ended at the end of the block."""
    nodes: list[Node] = []
    try:
        yield nodes
    finally:
        with undisturbed():
            for node in nodes:
                node.process.terminate()
            for node in nodes:
                node.stop()


def found(base: Path, nodes: list[Node]) -> None:
    """Found a mesh and start its first node."""
    name = NAMES[0]
    settings = write_settings(base / name, _LISTEN, ())
    init_mesh(
        NodeFolder(base / name), Founding(mesh_name="demo", operator="demo", node_name=name), time.time(), os.urandom
    )
    settings()
    _start(base, name, nodes).await_ready()


def join(base: Path, nodes: list[Node]) -> None:
    """Let the three others join with one token, as on other machines."""
    first, others = nodes[0], NAMES[1:]
    invitation = Invitation(seeds=(_address_of(first),), uses=len(others))
    token = make_invite(NodeFolder(first.folder), invitation, time.time(), os.urandom)
    for name in others:
        first.check()
        settings = write_settings(base / name, _LISTEN, ())
        join_mesh(NodeFolder(base / name), token, name, time.time(), os.urandom)
        settings()
        _start(base, name, nodes)
    for node in nodes[1:]:
        node.await_ready()


def wait_until_all_know_each_other(nodes: list[Node]) -> None:
    """Return when every node sees every other one alive and knows what it takes."""
    deadline = time.monotonic() + _START_S
    for node in nodes:
        with node.mesh as mesh:
            while sum(peer["state"] == "alive" and peer["granted"] is not None for peer in mesh.peers()) < len(nodes):
                for each in nodes:
                    each.check()
                if time.monotonic() > deadline:
                    raise DemoFailed(f"after {_START_S:.0f} s {node.name} does not see all {len(nodes)} nodes")
                time.sleep(0.02)


def environment_of(folder: Path, scratch: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of one daemon: the user's, without what is meant for the user's own daemon."""
    clean = {name: value for name, value in inherited.items() if not name.startswith(_NOT_INHERITED)}
    return {**clean, **_SETTINGS, "MESHD_DIR": str(folder), "TMPDIR": str(scratch)}


def _start(base: Path, name: str, nodes: list[Node]) -> Node:
    # No setting makes a daemon lie: the liar is another program, which only the demo has.
    entry = "meshd_node.demo.liar_node" if name == LIAR else "meshd_node.demo.honest_node"
    log = base / f"{name}.log"
    with log.open("wb") as words:
        process = subprocess.Popen(  # noqa: S603  # this interpreter, and a module of ours
            [sys.executable, "-P", "-m", entry, str(os.getpid())],
            env=environment_of(base / name, base, os.environ),
            cwd=base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends its daemons
        )
    nodes.append(Node(name, base / name, log, process))
    return nodes[-1]


def _address_of(node: Node) -> str:
    with node.mesh as mesh:
        return str(next(peer for peer in mesh.peers() if peer["self"])["addresses"][0])
