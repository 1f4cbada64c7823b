"""One cage, from its making to its end: its zygote's wire, its workers, what waits to be told to it."""

import os
import socket
import subprocess
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from meshd_node.exec.cage.cgroups import Group
from meshd_node.exec.cage.spec import CageSpec, Maker
from meshd_node.exec.control import CAGE_NEWS, CageNews, CageOrder, Received, Wire, close_all
from meshd_node.exec.warden.recipe import Harness, Recipe
from meshd_node.exec.warden.resident import Resident

_DEATH_S: Final = 1.0
# What a maker says before it fails is a line or two.
_SAID_BYTES: Final = 2_000


@dataclass(slots=True, eq=False)
class Cage:
    """One cage. Whoever it serves first, it serves until its end."""

    spec: CageSpec
    harness: Harness
    maker: Maker
    process: "subprocess.Popen[bytes]"
    wire: Wire[CageNews]
    made_at: float
    # Readable when the process has ended.
    pidfd: int
    tenant: bytes | None = None
    workers: dict[int, Resident] = field(default_factory=dict)
    # All processes of the cage, where the kernel keeps groups.
    group: Group | None = None
    ready: bool = False
    # It takes no more workers, and ends with its last one.
    retired: bool = False
    idle_since: float = 0.0
    _outbox: deque[tuple[CageOrder, list[int]]] = field(default_factory=deque)

    @classmethod
    def make(cls, recipe: Recipe, maker: Maker, number: int, harness: Harness, now: float) -> "Cage":
        """Have a cage made; its zygote says `Ready`, or its process ends. Raise `OSError` or `CageError`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            with theirs:
                spec = recipe.spec(number, harness, theirs.fileno(), stderr=subprocess.PIPE)
                process = maker.start(spec)
        except BaseException:
            ours.close()
            raise
        if process.stderr is not None:
            os.set_blocking(process.stderr.fileno(), False)
        pidfd = os.pidfd_open(process.pid)
        return cls(spec, harness, maker, process, Wire(ours, CAGE_NEWS), now, pidfd)

    @property
    def number(self) -> int:
        """Of all cages that live, this one's alone."""
        return self.spec.number

    @property
    def blocked(self) -> bool:
        """Whether something waits that its zygote could take."""
        return self.ready and bool(self._outbox)

    def order(self, word: CageOrder, descriptors: Sequence[int] = ()) -> None:
        """Tell the zygote something, now or when it can hear it. Descriptors are closed here once they are sent."""
        self._outbox.append((word, list(descriptors)))
        self.flush()

    def flush(self) -> None:
        """Send what the zygote's socket takes."""
        while self.blocked:
            word, descriptors = self._outbox[0]
            try:
                self.wire.send(word, descriptors, wait=False)
            except BlockingIOError:
                return
            except OSError:  # its end is seen by whoever waits for it
                self._drop_outbox()
                return
            close_all(descriptors)
            self._outbox.popleft()

    def receive(self) -> Received[CageNews] | None:
        """What the zygote says; None if it will say nothing more, or nothing that makes sense."""
        try:
            return self.wire.receive()
        except ConnectionError:
            return None

    def end(self) -> str:
        """End all that is in it and remove what it wrote; return what was said of its end, if anything was."""
        self._drop_outbox()
        self.wire.close()
        for resident in self.workers.values():
            resident.close_gate()
        if self.group is not None:
            self.group.kill()
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):  # the kernel holds it; it runs nothing more
            self.process.wait(_DEATH_S)
        os.close(self.pidfd)
        said = self._said()
        self.maker.clear(self.spec)
        return said

    def _said(self) -> str:
        if self.process.stderr is None:
            return ""
        with self.process.stderr as pipe:
            said = pipe.read(_SAID_BYTES) or b""
        return said.decode("utf-8", "replace").strip()

    def _drop_outbox(self) -> None:
        for _, descriptors in self._outbox:
            close_all(descriptors)
        self._outbox.clear()
