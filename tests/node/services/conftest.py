"""Shells with a real machine inside, and twins in memory around them."""

import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.owner import effects
from meshd_node.core.owner.config import OwnerConfig
from meshd_node.core.owner.events import ExecutorView
from meshd_node.core.owner.machine import Owner
from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Tenant
from meshd_node.frame_socket import FrameSocket
from meshd_node.seams import KeySigner, Seams
from meshd_node.services.jobs.context import JobContext
from meshd_node.services.jobs.journal import MemoryJournal
from meshd_node.services.jobs.service import JobService
from meshd_node.services.local.session import Session
from meshd_node.services.outflow import Outflow
from meshd_protocol import PROTOCOL_VERSION
from meshd_protocol.framing import FrameReader, Message
from meshd_protocol.ids import ID_BYTES, Digest, JobId, MeshId, NodeId
from meshd_protocol.limits import LOCAL_FRAME_BYTES_MAX
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus
from meshd_protocol.messages.local import LOCAL, Answer, Ask, ClientHello, Denial, DenialCode, Welcome
from meshd_protocol.messages.peer import Credit
from meshd_protocol.records import CageLevel, Offer, Phase

NODE = NodeId(b"n" * ID_BYTES)
MESH = MeshId(b"m" * ID_BYTES)
OFFER = Offer(Phase.ALIVE, 8_000, 1 << 34, [], 2, ["3.11"], "linux", 10_000_000, CageLevel.NONE, True)


@dataclass
class FakeExecutor:
    """This node's executor: notes leases, and answers when a test says so."""

    leases: list[effects.Lease] = field(default_factory=list)
    recalls: list[effects.Recall] = field(default_factory=list)
    ended: list[JobId] = field(default_factory=list)

    def own_function(self, submitter: Submitter, job: JobId, digest: Digest, data: bytes) -> None:
        pass

    def own_lease(self, lease: effects.Lease, tenant: Tenant, timeout_ms: int) -> None:
        self.leases.append(lease)

    def own_recall(self, recall: effects.Recall) -> None:
        self.recalls.append(recall)

    def own_job_ended(self, job: JobId) -> None:
        self.ended.append(job)


class FakeAnswers:
    """Lets everybody do everything to their own jobs; `answer` is what each question gets."""

    def __init__(self) -> None:
        self.json = b"{}"
        self.denial: Denial | None = None
        self.others_answered = trio.Event()

    def welcome(self) -> Welcome:
        return Welcome(PROTOCOL_VERSION, NODE, MESH, "node", "0")

    def why_not_submit(self) -> Denial | None:
        return self.denial

    def why_not_touch(self, context: JobContext | None, uid: int) -> Denial | None:
        if context is None:
            return Denial(DenialCode.NO_SUCH_JOB, "no such job")
        return None if uid == context.submitter.uid else Denial(DenialCode.NOT_YOURS, "another user's")

    async def inquire(self, ask: Ask) -> Answer:
        await self.others_answered.wait()
        return Answer(self.json)

    def answer(self, ask: Ask, uid: int) -> Answer:
        return Answer(self.json)


class FakeCommands:
    """Notes what it was told, and by whom."""

    def __init__(self) -> None:
        self.told: list[tuple[Message, int]] = []

    def obey(self, command: Message, uid: int) -> Answer:
        self.told.append((command, uid))
        return Answer(b"{}")


class Program:
    """The other end of a session."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.received: list[tuple[Message, int]] = []
        self._reader = FrameReader(LOCAL_FRAME_BYTES_MAX)

    async def say(self, *messages: Message, stream: int = 0) -> None:
        """Send, and let the daemon handle it."""
        data = b"".join(LOCAL.encode(message, stream) for message in messages)
        while data:
            await trio.lowlevel.wait_writable(self.sock)
            data = data[self.sock.send(data) :]
        await trio.testing.wait_all_tasks_blocked()

    def hear(self, kind: type[Message]) -> list[Any]:
        """Everything of this kind that has arrived so far, since the last call for it."""
        try:
            while data := self.sock.recv(1 << 20):
                self._reader.feed(data)
                self.received += [(LOCAL.decode(frame), frame.stream) for frame in self._reader.frames()]
        except BlockingIOError:
            pass
        found = [message for message, _ in self.received if isinstance(message, kind)]
        self.received = [each for each in self.received if not isinstance(each[0], kind)]
        return found

    def is_hung_up_on(self) -> bool:
        """Whether the daemon has closed the connection."""
        self.hear(Denial)
        try:
            return self.sock.recv(1) == b""
        except BlockingIOError:
            return False


class Daemon:
    """The owner's half of a daemon: jobs, and programs on the local socket."""

    def __init__(self, nursery: trio.Nursery) -> None:
        key = Ed25519PrivateKey.from_private_bytes(bytes(32))
        seams = Seams(signer=KeySigner(key), rng=random.Random(0), entropy=random.Random(0).randbytes)
        self.executor = FakeExecutor()
        self.answers = FakeAnswers()
        self.commands = FakeCommands()
        self.outflow = Outflow()
        owner = Owner(NODE, seams.rng, OwnerConfig())
        self.jobs = JobService(owner, NODE, MESH, seams, MemoryJournal(), self.executor, self.outflow)
        self._nursery = nursery
        self._ends: list[socket.socket] = []

    def lend(self, units: int = 256, payload_bytes: int = 1 << 30) -> None:
        """Have this node's own executor take units."""
        self.jobs.executor_changed(ExecutorView(NODE, "lab", True, True, OFFER))
        self.jobs.credit(NODE, Credit(units, payload_bytes))

    def finish(self, value: bytes = b"\x00", status: AttemptStatus = AttemptStatus.RETURNED) -> None:
        """Answer every lease that waits."""
        leases, self.executor.leases = self.executor.leases, []
        for lease in leases:
            results = [
                AttemptResult(index, attempt, status, value)
                for index, attempt in zip(lease.indices, lease.attempts, strict=True)
            ]
            self.jobs.own_results(lease.job, lease.epoch, results)
        self.outflow.flush()

    async def program(self, uid: int = 1_000, *, greeted: bool = True) -> Program:
        """A program of this user, connected."""
        ours, theirs = socket.socketpair()
        self._ends += [ours, theirs]
        session = Session(FrameSocket(ours, LOCAL), uid, self.jobs, self.answers, self.commands, self.outflow)  # type: ignore[arg-type]
        self._nursery.start_soon(session.run)
        program = Program(theirs)
        if greeted:
            await program.say(ClientHello([PROTOCOL_VERSION], "test"))
            assert program.hear(Welcome)
        return program

    def close(self) -> None:
        for end in self._ends:
            end.close()


@pytest.fixture
def daemon(nursery: trio.Nursery) -> Iterator[Daemon]:
    made = Daemon(nursery)
    yield made
    made.close()
