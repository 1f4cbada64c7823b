"""What an owner, or one user of it, may fill of an executor: nothing unadmitted, and nobody else's share."""

import random
import time
from dataclasses import dataclass, field
from itertools import count

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.charter.allowance import Cage
from meshd_node.charter.config import CharterConfig
from meshd_node.core import tranche_window
from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.events import Lent
from meshd_node.core.executor.machine import Executor
from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Tenant
from meshd_node.seams import KeySigner, Seams
from meshd_node.services.execution import functions, intake
from meshd_node.services.execution.admittance import Admittance
from meshd_node.services.execution.functions import FUNCTION_OVERHEAD, FunctionStore, TooManyFunctions
from meshd_node.services.execution.intake import Accepted, HandBack, Intake, Parked, Refused
from meshd_node.services.execution.service import ExecutionService
from meshd_node.services.jobs.sent import SentLog
from meshd_node.services.outflow import Outflow
from meshd_protocol.certificates import Certified, verify_node_chain
from meshd_protocol.errors import NotAllowed
from meshd_protocol.framing import Message
from meshd_protocol.ids import (
    ID_BYTES,
    NONCE_BYTES,
    JobId,
    NodeId,
    function_digest,
    job_id,
    mesh_id,
    node_id,
    unit_digest,
)
from meshd_protocol.issuing import Signer, issue_node
from meshd_protocol.limits import DIGESTS_KEPT, TRANCHE_WEIGHT, UNIT_BYTES_MAX
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.local import (
    CloseJob,
    DefineFunction,
    Denial,
    DenialCode,
    JobEnded,
    JobOpened,
    OpenJob,
    SubmittedUnit,
    SubmitUnits,
)
from meshd_protocol.messages.peer import AttemptsEnded, FunctionData, JobOpen, LeasedUnit, LeaseGrant, TrancheOpen
from meshd_protocol.names import NodeName, Role
from meshd_protocol.records import Manifest, Needs, Policy, Tranche, encode_record
from meshd_protocol.signing import Domain, sign

FUNCTION = b"a pickled function"
DIGEST = function_digest(FUNCTION)
OPEN = OpenJob("job", Policy(), Needs(), False)
UNITS = SubmitUnits([SubmittedUnit(0, b"unit")])
ROOT = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
BOTH = frozenset({Role.WORKER, Role.SUBMITTER})


class Node:
    """A certified node, and what it signs as an owner."""

    def __init__(self, number: int, operator: str = "lab", roles: frozenset[Role] = BOTH) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
        root_key, public = ROOT.public_key().public_bytes_raw(), self.key.public_key()
        self.mesh, nonce = mesh_id(root_key), bytes(NONCE_BYTES)
        name = NodeName(self.mesh, node_id(public.public_bytes_raw(), nonce), operator, roles, nonce)
        self.certified: Certified = verify_node_chain(
            root_key, (issue_node(Signer.root(ROOT), public, name, 7, time.time()),), time.time()
        )

    def job(self, uid: int = 1, name: str = "job") -> tuple[JobId, JobOpen]:
        manifest = Manifest(self.mesh, self.certified.node, uid, bytes(NONCE_BYTES), 0, name, Policy(), Needs())
        body = encode_record(manifest)
        return job_id(body), JobOpen(sign(self.key, Domain.MANIFEST, body))

    def tranche(self, job: JobId, *payloads: bytes, sequence: int = 0) -> TrancheOpen:
        digests = b"".join(unit_digest(DIGEST, payload) for payload in payloads)
        return TrancheOpen(job, sign(self.key, Domain.TRANCHE, encode_record(Tranche(job, sequence, 0, digests))))


def lease(job: JobId, *payloads: bytes, sequence: int = 0) -> LeaseGrant:
    units = [LeasedUnit(index, 0, 0, payload) for index, payload in enumerate(payloads)]
    return LeaseGrant(job, 1, sequence, 1_000, [DIGEST], units)


@dataclass
class FakeLink:
    """Notes what is sent."""

    peer: Certified
    sent: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> None:
        self.sent.append(message)


class FakeCharter:
    """The default, open."""

    charter = CharterConfig()
    closed = ""


class FakePool:
    """Starts nothing."""

    def start(self, worker: int, tenant: Tenant, gpus: tuple[str, ...], memory_bytes: int) -> None:
        pass


class FakeJobs:
    """Does not care."""

    def credit(self, node: NodeId, message: Message) -> None:
        pass


def a_service(me: Node) -> ExecutionService:
    seams = Seams(signer=KeySigner(me.key), monotonic=lambda: 0.0)
    made = ExecutionService(
        Executor(me.certified.node, Lent(2, 2 << 30)),
        me.certified,
        seams,
        Admittance(me.certified, FakeCharter(), lambda: Cage(known=True)),
        Outflow(),
    )
    environments = None  # none of this work asks for any
    made.connect(FakePool(), FakeJobs(), lambda: None, environments)  # type: ignore[arg-type]
    return made


# --- owners that are not admitted -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("me", "peer", "why"),
    [
        (Node(2), Node(3, operator="else"), "other operators' work needs the cage level strict there"),
        (Node(2), Node(3, roles=frozenset({Role.WORKER})), "no role submitter"),
        (Node(2, roles=frozenset({Role.SUBMITTER})), Node(3), "no role worker"),
    ],
)
def test_an_owner_that_is_not_admitted_fills_nothing_and_each_lease_is_refused(me, peer, why) -> None:
    """Leases of anybody were once parked, 64 MiB each, before anybody asked whether that node may send work."""
    service, link = a_service(me), FakeLink(peer.certified)
    node = peer.certified.node
    service.link_up(link)  # type: ignore[arg-type]
    job, opened = peer.job()
    service.job_open(node, opened)
    service.tranche_open(node, peer.tranche(job, b"a"))
    service.lease(node, lease(job, b"a"))
    service.function_data(node, FunctionData(job, FUNCTION))

    (message,) = link.sent
    assert isinstance(message, AttemptsEnded)
    (end,) = message.ends
    assert (end.status, why in end.detail) == (AttemptStatus.REFUSED, True)
    assert not service.functions.has(job, DIGEST)
    assert service.executor.queued == 0
    service.link_down(link)  # type: ignore[arg-type]


def test_an_admitted_owners_lease_waits_for_its_function_and_is_queued() -> None:
    peer = Node(3)
    service, link = a_service(Node(2)), FakeLink(peer.certified)
    node = peer.certified.node
    service.link_up(link)  # type: ignore[arg-type]
    job, opened = peer.job()
    service.job_open(node, opened)
    service.tranche_open(node, peer.tranche(job, b"a"))
    service.lease(node, lease(job, b"a"))
    assert service.executor.queued == 0
    service.function_data(node, FunctionData(job, FUNCTION))

    assert service.executor.queued == 1
    service.link_down(link)  # type: ignore[arg-type]
    assert not service.functions.has(job, DIGEST)


# --- leases that wait -------------------------------------------------------------------------------------------------


def an_intake(owner: Node, config: ExecutorConfig | None = None, store: FunctionStore | None = None) -> Intake:
    return Intake(owner.certified, owner.mesh, store or FunctionStore(), config or ExecutorConfig())


def with_job(made: Intake, owner: Node, *payloads: bytes, uid: int = 1, name: str = "job") -> JobId:
    job, opened = owner.job(uid, name)
    made.open_job(opened)
    made.open_tranche(owner.tranche(job, *payloads))
    return job


def test_leases_that_wait_are_bounded_by_their_bytes_over_all_jobs() -> None:
    """1,024 leases of 64 MiB each were once let wait."""
    owner, payload = Node(3), bytes(UNIT_BYTES_MAX)
    made = an_intake(owner)
    jobs = [with_job(made, owner, b"a", name=name) for name in "ab"]
    for job in (*jobs, *jobs):
        assert made.accept(lease(job, payload)) == Parked()

    with pytest.raises(NotAllowed, match="would wait for their functions: keep to the credit"):
        made.accept(lease(jobs[0], b"a"))
    made.job_ended(jobs[1])
    assert made.accept(lease(jobs[0], payload)) == Parked()


@pytest.mark.parametrize(("units", "functions_listed"), [(128, 1), (1, 128)])
def test_leases_that_wait_are_bounded_by_their_units_and_functions(units, functions_listed) -> None:
    owner = Node(3)
    made = an_intake(owner, ExecutorConfig(window_units_max=256, queue_units_max=256))
    job = with_job(made, owner, b"a")
    listed = [function_digest(bytes([number])) for number in range(functions_listed)]
    waiting = LeaseGrant(job, 1, 0, 1_000, listed, [LeasedUnit(0, 0, 0, b"")] * units)
    assert [made.accept(waiting) for _ in range(2)] == [Parked()] * 2

    with pytest.raises(NotAllowed, match="would wait for their functions"):
        made.accept(lease(job, b"a"))


def test_as_many_leases_of_one_unit_wait_as_the_widest_window_allows() -> None:
    """1,024 were once the bound, and an owner that kept its credit of 4,096 lost its session."""
    owner = Node(3)
    made = an_intake(owner)
    job = with_job(made, owner, b"a")

    assert {made.accept(lease(job, b"a")) for _ in range(ExecutorConfig().window_units_max)} == {Parked()}


# --- tranches ---------------------------------------------------------------------------------------------------------


def test_many_small_tranches_cost_no_more_than_few_large_ones() -> None:
    """32,768 tranches of one digest once took 12 MiB in each of 4,096 jobs."""
    window: tranche_window.TrancheWindow[None] = tranche_window.TrancheWindow()
    jobs = [JobId(bytes([number]) * ID_BYTES) for number in range(4)]
    for sequence in range(5_000):
        for job in jobs:
            window.put(job, sequence, 1, None)

    kept = sum((job, sequence) in window for sequence in range(5_000) for job in jobs)
    assert kept == DIGESTS_KEPT // (1 + TRANCHE_WEIGHT)


def test_owner_and_executor_agree_on_every_tranche_that_is_kept(monkeypatch) -> None:
    """Else leases come back from a node that the owner thinks has their tranche, again and again."""
    monkeypatch.setattr(tranche_window, "DIGESTS_KEPT", 5 * TRANCHE_WEIGHT)
    rng, owner = random.Random(5), Node(3)
    made, log = an_intake(owner, ExecutorConfig(queue_units_max=1_000_000)), SentLog()
    jobs: dict[JobId, int] = {}
    names = count()
    for _ in range(300):
        if len(jobs) < 3:
            job, opened = owner.job(name=str(next(names)))
            made.open_job(opened)
            log.open(job)
            jobs[job] = 0
        job = rng.choice(list(jobs))
        if rng.random() < 0.1:
            made.job_ended(job)
            assert log.forget(job)
            del jobs[job]
        else:
            sequence = rng.randrange(jobs[job] + 1)
            jobs[job] = max(jobs[job], sequence + 1)
            payloads = [b"a"] * (1 + sequence % 9)
            made.open_tranche(owner.tranche(job, *payloads, sequence=sequence))
            log.tranches.put(job, sequence, len(payloads), None)

        for job, sequences in jobs.items():
            for sequence in range(sequences):
                here = not isinstance(made.accept(lease(job, b"a", sequence=sequence)), HandBack)
                assert here == ((job, sequence) in log.tranches)


def test_a_job_that_is_told_again_at_the_bound_is_not_one_more(monkeypatch) -> None:
    monkeypatch.setattr(intake, "OPEN_JOBS_MAX", 1)
    owner = Node(3)
    made = an_intake(owner)
    _, opened = owner.job()
    made.open_job(opened)
    made.open_job(opened)

    with pytest.raises(NotAllowed, match="open jobs"):
        made.open_job(owner.job(name="another")[1])


# --- functions --------------------------------------------------------------------------------------------------------


def test_a_users_functions_beyond_the_bound_refuse_that_job_and_no_other_users(monkeypatch) -> None:
    """The session ended once, and with it what the owner's other users had running here."""
    monkeypatch.setattr(functions, "FUNCTION_BYTES_OF_SUBMITTER_MAX", 1_000 + FUNCTION_OVERHEAD)
    owner = Node(3)
    made = an_intake(owner)
    greedy, modest = (with_job(made, owner, b"a", uid=uid) for uid in (1, 2))
    waiting = lease(greedy, b"a")
    assert made.accept(waiting) == Parked()

    assert made.add_function(FunctionData(greedy, bytes(1_001))) == [waiting]
    made.add_function(FunctionData(modest, FUNCTION))

    refused = made.accept(waiting)
    assert isinstance(refused, Refused)
    assert "are kept" in refused.reason
    assert isinstance(made.accept(lease(modest, b"a")), Accepted)


def test_an_owner_that_names_many_users_fills_no_more_than_four_may(monkeypatch) -> None:
    monkeypatch.setattr(intake, "FUNCTION_BYTES_OF_OWNER_MAX", 4 * (1_000 + FUNCTION_OVERHEAD))
    owner, store = Node(3), FunctionStore()
    made = an_intake(owner, store=store)
    jobs = [with_job(made, owner, b"a", uid=uid) for uid in range(6)]
    for number, job in enumerate(jobs):
        made.add_function(FunctionData(job, bytes([number]) * 1_000))
    digests = [function_digest(bytes([number]) * 1_000) for number in range(6)]

    assert [store.has(*each) for each in zip(jobs, digests, strict=True)] == [True] * 4 + [False] * 2
    made.job_ended(jobs[0])
    late = with_job(made, owner, b"a", uid=9)
    made.add_function(FunctionData(late, FUNCTION))
    assert store.has(late, DIGEST)


def test_functions_of_few_bytes_count_what_they_cost(monkeypatch) -> None:
    monkeypatch.setattr(functions, "FUNCTION_BYTES_OF_SUBMITTER_MAX", 3 * FUNCTION_OVERHEAD)
    store, submitter, job = FunctionStore(), Submitter(NodeId(bytes(ID_BYTES)), 1), JobId(bytes(ID_BYTES))
    for data in (b"", b"f"):
        store.put(submitter, job, function_digest(data), data)

    with pytest.raises(TooManyFunctions):
        store.put(submitter, job, function_digest(b"g"), b"g")


async def test_a_users_functions_never_end_anothers_job_nor_the_connection(daemon, monkeypatch) -> None:
    """All local users were once charged together, and whoever came last was hung up on."""
    monkeypatch.setattr(functions, "FUNCTION_BYTES_OF_SUBMITTER_MAX", 1_000 + FUNCTION_OVERHEAD)
    store = FunctionStore()
    monkeypatch.setattr(daemon.executor, "own_function", store.put)
    monkeypatch.setattr(daemon.executor, "own_job_ended", store.forget)
    daemon.lend()
    greedy, other = await daemon.program(uid=1), await daemon.program(uid=2)
    await greedy.say(OPEN, DefineFunction(0, bytes(900)), stream=1)
    await greedy.say(OPEN, DefineFunction(0, b"1" * 200), UNITS, CloseJob(), stream=2)
    await other.say(OPEN, DefineFunction(0, b"2" * 900), UNITS, CloseJob(), stream=1)
    daemon.finish()

    assert [denial.code for denial in greedy.hear(Denial)] == [DenialCode.TOO_MUCH]
    assert [ended.state for ended in greedy.hear(JobEnded)] == ["cancelled"]
    assert other.hear(JobEnded) == [JobEnded("done", "")]
    first, second = greedy.hear(JobOpened)
    assert daemon.jobs.job(second.job).functions == {}
    assert len(daemon.jobs.job(first.job).functions) == 1
    assert not greedy.is_hung_up_on()
