"""Programs and members that break the protocol lose their connection; a job that runs meanwhile notices nothing."""

import os
import pickle
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from meshd_node.identity.folder import NodeFolder
from meshd_node.net.tls import client_context
from meshd_node.seams import KeySigner
from meshd_node.services.receipts import sign_results
from meshd_protocol import PROTOCOL_VERSION
from meshd_protocol.errors import CloseCode
from meshd_protocol.framing import Channel, FrameReader, Message
from meshd_protocol.ids import (
    DIGEST_BYTES,
    ID_BYTES,
    NONCE_BYTES,
    Digest,
    JobId,
    from_text,
    function_digest,
    job_id,
    unit_digest,
)
from meshd_protocol.limits import BATCH_UNITS_MAX, FRAME_BYTES_MAX, LOCAL_FRAME_BYTES_MAX
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus
from meshd_protocol.messages.local import (
    LOCAL,
    Answer,
    Ask,
    AttachJob,
    CancelJob,
    CancelUnits,
    ClientHello,
    CloseJob,
    DefineFunction,
    Denial,
    DenialCode,
    JobOpened,
    OpenJob,
    Question,
    SubmittedUnit,
    SubmitUnits,
    Welcome,
)
from meshd_protocol.messages.membership import (
    DIGEST_ENTRY_BYTES,
    HANDLE_BYTES,
    SUMMARY_HASH_BYTES,
    BucketDigests,
    Load,
    Probe,
    ProbeAck,
    ProbeReport,
    ProbeRequest,
    Rumours,
    SignedClaim,
    SignedRevocation,
    SignedState,
    States,
    StateWants,
    Summary,
)
from meshd_protocol.messages.peer import (
    PEER,
    AttemptsEnded,
    Close,
    Credit,
    FunctionData,
    Hello,
    JobOpen,
    Lane,
    LeasedUnit,
    LeaseGrant,
    Ping,
    Pong,
    Recall,
    ResultBatch,
    SignRequest,
    Slice,
    TrancheOpen,
    WantBulk,
)
from meshd_protocol.records import Manifest, Needs, Policy, Tranche, Version, encode_record
from meshd_protocol.signing import Domain, Signed, sign

SEEDS = 150
A_JOB = OpenJob("bad", Policy(), Needs(), False)
HELLO = ClientHello([PROTOCOL_VERSION], "test")


class Wire:
    """One end of a connection that a test plays by hand."""

    def __init__(self, sock: socket.socket, channel: Channel) -> None:
        self._sock = sock
        self._channel = channel
        self._reader = FrameReader(max(FRAME_BYTES_MAX, LOCAL_FRAME_BYTES_MAX))
        self._waiting: list[tuple[Message, int]] = []

    def send(self, *messages: Message, stream: int = 0) -> None:
        self.send_bytes(b"".join(self._channel.encode(message, stream) for message in messages))

    def send_bytes(self, data: bytes) -> None:
        """Send it all, unless the other side has hung up already."""
        try:
            self._sock.sendall(data)
        except (ConnectionError, ssl.SSLError):
            return

    def next(self) -> tuple[Message, int] | None:
        """The next message and its stream; None at the end."""
        while not self._waiting:
            try:
                data = self._sock.recv(1 << 16)
            except (ConnectionError, ssl.SSLError):
                return None
            if not data:
                return None
            self._reader.feed(data)
            self._waiting += [(self._channel.decode(frame), frame.stream) for frame in self._reader.frames()]
        return self._waiting.pop(0)

    def until(self, kind: type[Message]) -> Any:
        """The next message of a kind; None if the other side hangs up before."""
        while (got := self.next()) is not None:
            if isinstance(got[0], kind):
                return got[0]
        return None

    def hang_up(self) -> list[Message]:
        """Send no more; return all that still comes."""
        socket.socket.shutdown(self._sock, socket.SHUT_WR)  # of TCP: that of TLS would forget the keys
        rest = []
        while (got := self.next()) is not None:
            rest.append(got[0])
        return rest


@contextmanager
def program(node: Any, *, greeted: bool = True) -> Iterator[Wire]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(node.socket))
        wire = Wire(sock, LOCAL)
        if greeted:
            wire.send(HELLO)
            assert wire.until(Welcome)
        yield wire


@contextmanager
def member(node: Any, credentials: Any, lane: Lane = Lane.CONTROL) -> Iterator[Wire]:
    """A session with a node, held by somebody with a valid certificate and bad intentions."""
    host, port = node.address.split(":")
    with (
        socket.create_connection((host, int(port)), 20) as plain,
        client_context(credentials).wrap_socket(plain) as tls,
    ):
        wire = Wire(tls, PEER)
        assert wire.until(Hello)
        wire.send(Hello([PROTOCOL_VERSION], lane, credentials.issuer, int(time.time() * 1_000)))
        if lane is Lane.CONTROL:
            assert wire.until(Ping)
            wire.send(Pong())
        yield wire


@pytest.fixture
def busy(standing) -> Iterator[None]:
    """A job that runs all the while, and none of whose units may fail or be done twice."""
    with standing[0].mesh() as mesh:
        futures = [mesh.submit(time.sleep, 0.01) for _ in range(60)]
        yield
        futures += [mesh.submit(pow, number, 2) for number in range(20)]
        assert [future.result(20) for future in futures] == [None] * 60 + [number**2 for number in range(20)]
        (job,) = [job for job in mesh.jobs() if job["units"] == 80 and job["state"] == "open"] or [None]
        assert job is None or job["failed"] == 0


# --- programs ---------------------------------------------------------------------------------------------------------


def frame(kind: int, body: bytes) -> bytes:
    return (5 + len(body)).to_bytes(4, "big") + bytes([kind, 0, 0, 0, 0]) + body


def junk(channel: Channel) -> dict[str, bytes]:
    plain, empty = (Ask.KIND, CloseJob.KIND) if channel is LOCAL else (Credit.KIND, Ping.KIND)
    return {
        "text": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "zeros": bytes(64),
        "an oversized frame": (1 << 31).to_bytes(4, "big") + bytes(100),
        "a frame of another channel": PEER.encode(Ping()) if channel is LOCAL else LOCAL.encode(CloseJob()),
        "a kind that does not exist": frame(0xFE, b""),
        "a body that is not MessagePack": frame(plain, b"\xc1\xc1\xc1\xc1"),
        "a body with a field too many": frame(empty, b"\x91\xc0"),
        "deep nesting": frame(plain, b"\x91" * 5_000),
    }


@pytest.mark.parametrize("greeted", [False, True])
@pytest.mark.parametrize("what", junk(LOCAL))
def test_a_program_that_sends_junk_is_told_so_and_hung_up_on(standing, what, greeted) -> None:
    with program(standing[0], greeted=greeted) as wire:
        wire.send_bytes(junk(LOCAL)[what])
        denial = wire.until(Denial)

        assert denial.code is DenialCode.PROTOCOL
        assert denial.reason
        assert wire.next() is None


@pytest.mark.parametrize(
    "message",
    [
        HELLO,
        Welcome(1, bytes(ID_BYTES), bytes(ID_BYTES), "", ""),
        Answer(b"{}"),
        SubmitUnits([SubmittedUnit(0, b"")]),
    ],
)
def test_a_message_at_a_moment_when_it_makes_no_sense_ends_the_connection(standing, message) -> None:
    with program(standing[0]) as wire:
        wire.send(A_JOB, stream=1)
        wire.send(message, stream=1)

        assert wire.until(Denial).code is DenialCode.PROTOCOL
        assert wire.next() is None


def test_a_program_of_another_version_is_told_which_one_the_daemon_speaks(standing) -> None:
    with program(standing[0], greeted=False) as wire:
        wire.send(ClientHello([PROTOCOL_VERSION + 1], "newer"))

        assert wire.until(Denial).code is DenialCode.VERSION


def test_half_a_frame_and_the_end_are_no_trouble(standing) -> None:
    for size in (1, 4, 8, 9, 12):
        with program(standing[0]) as wire:
            wire.send_bytes(LOCAL.encode(A_JOB, 1)[:size])
            assert wire.hang_up() == []


def test_a_program_that_never_reads_holds_up_nobody(standing, busy) -> None:
    with program(standing[0]) as wire:
        for _ in range(3_000):
            wire.send(Ask(Question.PEERS), stream=3)
            wire.send(Ask(Question.JOBS), stream=4)


def test_whatever_a_program_says_in_whatever_order_the_daemon_lives(standing, busy) -> None:
    for seed in range(SEEDS):
        with program(standing[0]) as wire:
            wire.send_bytes(_nonsense(random.Random(seed), LOCAL, _local_message))
            wire.hang_up()
        assert standing[0].process.poll() is None, f"repeat with seed {seed}"


def _local_message(rng: random.Random) -> Message:
    job = JobId(rng.randbytes(ID_BYTES))
    number = rng.choice([0, 0, 1, 2])
    return rng.choice(
        [
            A_JOB,
            OpenJob("n" * rng.randrange(200), Policy(rng.randrange(4), rng.randrange(4)), Needs(), rng.random() < 0.5),
            DefineFunction(number, rng.randbytes(rng.randrange(100))),
            SubmitUnits(
                [SubmittedUnit(number, rng.randbytes(rng.randrange(50))) for _ in range(rng.randrange(1, 300))]
            ),
            CancelUnits([rng.randrange(300) for _ in range(rng.randrange(1, 300))]),
            CloseJob(),
            AttachJob(job),
            CancelJob(job),
            Ask(rng.choice(list(Question)), rng.choice([b"", job, b"short"]), rng.randrange(-1, 5)),
        ]
    )


def _nonsense(rng: random.Random, channel: Channel, make: Callable[[random.Random], Message]) -> bytes:
    """Well-formed messages in an order that makes no sense; at times the last one is cut or has a wrong byte."""
    frames = [channel.encode(make(rng), rng.randrange(4)) for _ in range(rng.randrange(1, 30))]
    frames += rng.sample(frames, rng.randrange(len(frames)))  # and replayed
    last = bytearray(frames[-1])
    if rng.random() < 0.3:
        last[rng.randrange(len(last))] ^= 1 << rng.randrange(8)
    return b"".join(frames[:-1]) + bytes(last[: rng.randrange(1, len(last) + 1)])


def test_ids_that_are_none_are_refused_and_the_connection_lives(standing) -> None:
    with program(standing[0]) as wire:
        for question in (AttachJob(JobId(bytes(ID_BYTES))), CancelJob(JobId(bytes(ID_BYTES))), Ask(Question.JOB, b"x")):
            wire.send(question, stream=5)
            assert wire.until(Denial).code is DenialCode.NO_SUCH_JOB
        wire.send(A_JOB, stream=6)
        assert wire.until(JobOpened)


# --- members ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(shared_lab, standing, tmp_path) -> Any:
    """The credentials of a member that no daemon of ours runs."""
    node = shared_lab.join(shared_lab.node(f"hostile-{tmp_path.name}"), standing[0])
    return NodeFolder(node.folder).identity()


@pytest.mark.parametrize("what", junk(PEER))
def test_a_member_that_sends_junk_is_told_so_and_hung_up_on(standing, hostile, what) -> None:
    with member(standing[1], hostile.credentials) as wire:
        wire.send_bytes(junk(PEER)[what])
        close = wire.until(Close)

        assert close.code in (CloseCode.PROTOCOL, CloseCode.TOO_LARGE)
        assert close.reason
        assert wire.next() is None


@pytest.mark.parametrize("lane", list(Lane))
def test_whatever_a_member_says_in_whatever_order_the_daemon_lives(standing, hostile, busy, lane) -> None:
    make = _peer_message if lane is Lane.CONTROL else _slice
    for seed in range(SEEDS // 3):
        with member(standing[seed % 3], hostile.credentials, lane) as wire:
            wire.send_bytes(_nonsense(random.Random(seed), PEER, make))
            wire.hang_up()
        assert [node.process.poll() for node in standing] == [None] * 3, f"repeat with seed {seed}"


def _slice(rng: random.Random) -> Message:
    whole = PEER.encode(_peer_message(rng))
    body = whole[9:]
    total = len(body) + rng.choice([0, 0, 0, 1, 1 << 20, (1 << 26) - len(body)])
    return Slice(whole[4], max(1, total), rng.choice([0, 0, 0, 5]), body[: 1 << 20] or b"\x90")


def _peer_message(rng: random.Random) -> Message:
    job, digest = JobId(rng.randbytes(ID_BYTES)), Digest(rng.randbytes(DIGEST_BYTES))
    signed = Signed(rng.randbytes(rng.randrange(1, 300)), rng.randbytes(64))
    results = [
        AttemptResult(rng.randrange(1 << 20), rng.randrange(1 << 16), rng.choice(list(AttemptStatus)), b"x")
        for _ in range(rng.randrange(1, 20))
    ]
    return rng.choice(
        [
            Ping(),
            Pong(),
            WantBulk(),
            SignRequest(rng.randbytes(200), rng.choice([b"", rng.randbytes(100)])),
            Probe(rng.randrange(1 << 32), rng.choice([None, Version(rng.randrange(1 << 32), rng.randrange(1 << 32))])),
            ProbeAck(rng.randrange(1 << 32), Load(1, 2)),
            ProbeRequest(rng.randrange(1 << 32), rng.randbytes(ID_BYTES)),
            ProbeReport(rng.randrange(1 << 32), True),
            Rumours(
                [SignedRevocation(rng.randbytes(rng.randrange(100)), rng.randbytes(64), b"")],
                [SignedClaim(rng.randbytes(rng.randrange(100)), rng.randbytes(64))],
                [SignedState(rng.randbytes(rng.randrange(100)), rng.randbytes(64))],
                rng.randbytes(DIGEST_ENTRY_BYTES * rng.randrange(100)),
            ),
            StateWants(rng.randbytes(HANDLE_BYTES * rng.randrange(100))),
            States([SignedState(rng.randbytes(rng.randrange(100)), rng.randbytes(64))], []),
            Summary(rng.randbytes(SUMMARY_HASH_BYTES << rng.randrange(9))),
            BucketDigests(64, bytes(rng.sample(range(64), 3)), rng.randbytes(DIGEST_ENTRY_BYTES * rng.randrange(100))),
            JobOpen(signed),
            FunctionData(job, rng.randbytes(rng.randrange(1_000))),
            TrancheOpen(job, signed),
            LeaseGrant(job, 1, 0, 1_000, [digest], [LeasedUnit(0, 0, 0, b"")]),
            ResultBatch(job, signed, results),
            AttemptsEnded(job, rng.randrange(3), results),
            Credit(rng.randrange(1 << 32), rng.randrange(1 << 40)),
            Recall(job, rng.randrange(3), [rng.randrange(1_000) for _ in range(rng.randrange(100))]),
        ]
    )


class Owner:
    """A hostile owner: it can sign what it likes with its own key."""

    def __init__(self, identity: Any) -> None:
        self.key = identity.credentials.key
        self.node = identity.name.node
        self.mesh = identity.mesh
        manifest = Manifest(
            mesh=self.mesh, submitter=self.node, uid=0, nonce=os.urandom(NONCE_BYTES), created_ms=0, name="hostile",
            policy=Policy(), needs=Needs(),
        )  # fmt: skip
        self.manifest = encode_record(manifest)
        self.job = job_id(self.manifest)

    def sign(self, domain: Domain, body: bytes) -> Signed:
        return sign(self.key, domain, body)

    def open(self) -> JobOpen:
        return JobOpen(self.sign(Domain.MANIFEST, self.manifest))

    def tranche(self, *digests: bytes) -> TrancheOpen:
        body = encode_record(Tranche(self.job, 0, 0, b"".join(digests)))
        return TrancheOpen(self.job, self.sign(Domain.TRANCHE, body))

    def lease(self, function: bytes, *payloads: bytes) -> LeaseGrant:
        units = [LeasedUnit(index, 0, 0, payload) for index, payload in enumerate(payloads)]
        return LeaseGrant(self.job, 1, 0, 1_000, [function_digest(function)], units)


def test_a_unit_that_its_submitter_did_not_sign_for_is_not_run(standing, hostile, busy, shared_lab) -> None:
    marker = shared_lab.open_folder / "ran"
    function = pickle.dumps(os.mkdir)
    payload = b"\x00" + pickle.dumps(((str(marker),), {}))
    owner = Owner(hostile)
    with member(standing[1], hostile.credentials) as wire:
        wire.send(
            owner.open(),
            FunctionData(owner.job, function),
            owner.tranche(unit_digest(function_digest(function), b"something else")),
            owner.lease(function, payload),
        )

        assert wire.until(Close).code is CloseCode.BAD_SIGNATURE
    assert not marker.exists()


def test_a_manifest_that_another_node_signed_ends_the_session(standing, hostile) -> None:
    owner = Owner(hostile)
    other = NodeFolder(standing[0].folder).identity()
    with member(standing[1], hostile.credentials) as wire:
        wire.send(JobOpen(sign(other.credentials.key, Domain.MANIFEST, owner.manifest)))

        assert wire.until(Close).code is CloseCode.BAD_SIGNATURE


def test_a_signature_of_another_domain_is_worth_nothing(standing, hostile) -> None:
    owner = Owner(hostile)
    with member(standing[1], hostile.credentials) as wire:
        wire.send(JobOpen(owner.sign(Domain.RECEIPT, owner.manifest)))

        assert wire.until(Close).code is CloseCode.BAD_SIGNATURE


def test_leases_of_unknown_jobs_are_handed_back(standing, hostile, busy) -> None:
    owner = Owner(hostile)
    with member(standing[1], hostile.credentials) as wire:
        wire.send(*[owner.lease(b"", *[b""] * BATCH_UNITS_MAX)] * 10)

        for _ in range(10):
            ends = wire.until(AttemptsEnded).ends
            assert {end.status for end in ends} == {AttemptStatus.HANDED_BACK}


def test_a_storm_of_recalls_recalls_only_ones_own(standing, hostile, busy, until) -> None:
    with standing[0].mesh() as mesh:
        job = mesh.job(time.sleep, [0.3] * 4)
        victim = JobId(from_text(job.id))
        with member(standing[1], hostile.credentials) as wire, member(standing[2], hostile.credentials) as again:
            for _ in range(200):
                for each in (wire, again):
                    each.send(Recall(victim, 1, []), Recall(victim, 1, [0, 1, 2, 3]), Recall(victim, 0, []))
            assert list(job.results()) == [None] * 4


def _forged(owner: Owner, job: JobId, to: bytes, *, executor: bytes, domain: Domain) -> ResultBatch:
    results = [AttemptResult(index, attempt, AttemptStatus.RETURNED, b"x") for index in range(2) for attempt in (0, 1)]
    batch = sign_results(KeySigner(owner.key), executor, to, job, 1, results)
    return ResultBatch(job, owner.sign(domain, batch.receipt.body), results)


@pytest.mark.parametrize("case", ["never leased", "in another's name", "of another domain", "for another owner"])
def test_a_result_of_a_unit_that_it_never_had_is_not_accepted(standing, hostile, until, case) -> None:
    owner = Owner(hostile)
    me, submitter = NodeFolder(standing[1].folder).identity().name.node, NodeFolder(standing[0].folder).identity()
    with standing[0].mesh() as mesh:
        job = mesh.job(time.sleep, [0.5, 0.5])
        forged = _forged(
            owner,
            JobId(from_text(job.id)),
            bytes(ID_BYTES) if case == "for another owner" else submitter.name.node,
            executor=me if case == "in another's name" else owner.node,
            domain=Domain.MANIFEST if case == "of another domain" else Domain.RECEIPT,
        )
        with member(standing[0], hostile.credentials) as wire:
            wire.send(forged)
            if case == "never leased":
                wire.send(Ping(), stream=9)
                assert wire.until(Pong), "strays may be honest: a lease that was taken back in the meantime"
            else:
                assert wire.until(Close).code is CloseCode.BAD_SIGNATURE
            assert list(job.results()) == [None, None]


def test_a_member_that_grants_credit_and_never_answers_costs_its_units_a_detour(standing, hostile, until) -> None:
    """What it holds is lost with its session, and runs elsewhere. It never said what it lends, so it gets nothing."""
    with standing[0].mesh() as mesh, member(standing[0], hostile.credentials) as wire:
        wire.send(Credit(1 << 20, 1 << 30))

        assert list(mesh.map(pow, range(50), [2] * 50)) == [number**2 for number in range(50)]
