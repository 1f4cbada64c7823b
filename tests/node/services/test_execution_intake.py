"""What an executor takes in from an owner, in any order, and what it holds against it."""

import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.services.execution import functions, intake
from meshd_node.services.execution.functions import FUNCTION_OVERHEAD, FunctionStore
from meshd_node.services.execution.intake import Accepted, HandBack, Intake, Parked, Refused
from meshd_protocol.certificates import verify_node_chain
from meshd_protocol.errors import BadSignature, MalformedMessage, NotAllowed, UnexpectedMessage
from meshd_protocol.ids import NONCE_BYTES, JobId, MeshId, function_digest, job_id, mesh_id, node_id, unit_digest
from meshd_protocol.issuing import Signer, issue_node
from meshd_protocol.limits import DIGESTS_KEPT, TRANCHE_UNITS_MAX
from meshd_protocol.messages.peer import FunctionData, JobOpen, LeasedUnit, LeaseGrant, TrancheOpen
from meshd_protocol.names import NodeName, Role
from meshd_protocol.records import Manifest, Needs, Policy, Tranche, encode_record
from meshd_protocol.signing import Domain, Signed, sign

FUNCTION = b"a pickled function"
DIGEST = function_digest(FUNCTION)


class Owner:
    """An owner with a key and a certificate, that signs what a test wants."""

    def __init__(self, roles: frozenset[Role] = frozenset({Role.WORKER, Role.SUBMITTER})) -> None:
        root, self.key = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
        root_key, public = root.public_key().public_bytes_raw(), self.key.public_key()
        self.mesh: MeshId = mesh_id(root_key)
        nonce = bytes(NONCE_BYTES)
        name = NodeName(self.mesh, node_id(public.public_bytes_raw(), nonce), "lab", roles, nonce)
        chain = (issue_node(Signer.root(root), public, name, 7, time.time()),)
        self.certified = verify_node_chain(root_key, chain, time.time())
        self.body = self.manifest()
        self.job = job_id(self.body)
        self.store = FunctionStore()
        self.intake = Intake(self.certified, self.mesh, self.store, ExecutorConfig())

    def manifest(self, **changes: object) -> bytes:
        content = {
            "mesh": self.mesh, "submitter": self.certified.node, "uid": 1, "nonce": bytes(NONCE_BYTES),
            "created_ms": 0, "name": "job", "policy": Policy(), "needs": Needs(),
        }  # fmt: skip
        return encode_record(Manifest(**{**content, **changes}))

    def sign(self, domain: Domain, body: bytes) -> Signed:
        return sign(self.key, domain, body)

    def open(self, body: bytes | None = None) -> None:
        self.intake.open_job(JobOpen(self.sign(Domain.MANIFEST, body or self.body)))

    def tranche(self, *payloads: bytes, sequence: int = 0, first: int = 0, job: JobId | None = None) -> None:
        digests = b"".join(unit_digest(DIGEST, payload) for payload in payloads)
        body = encode_record(Tranche(job or self.job, sequence, first, digests))
        self.intake.open_tranche(TrancheOpen(self.job, self.sign(Domain.TRANCHE, body)))

    def lease(self, *payloads: bytes, tranche: int = 0, first: int = 0) -> LeaseGrant:
        units = [LeasedUnit(first + index, 0, 0, payload) for index, payload in enumerate(payloads)]
        return LeaseGrant(self.job, 1, tranche, 1_000, [DIGEST], units)

    def function(self) -> list[LeaseGrant]:
        return self.intake.add_function(FunctionData(self.job, FUNCTION))


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_a_lease_that_its_submitter_signed_for_is_accepted(owner) -> None:
    owner.open()
    owner.function()
    owner.tranche(b"a", b"b", b"c")

    accepted = owner.intake.accept(owner.lease(b"b", b"c", first=1))

    assert isinstance(accepted, Accepted)
    assert [(work.unit, work.payload) for work in accepted.work] == [(1, b"b"), (2, b"c")]
    assert accepted.manifest.name == "job"


@pytest.mark.parametrize("first", [0, 1, 3, 250])
def test_a_unit_with_another_payload_or_index_than_was_signed_for_is_the_owners_fault(owner, first) -> None:
    owner.open()
    owner.function()
    owner.tranche(b"a", b"b", b"c")

    with pytest.raises(BadSignature, match="is not what the submitter signed for"):
        owner.intake.accept(owner.lease(b"x", first=first))


def test_a_lease_waits_for_the_function_that_it_calls(owner) -> None:
    """Functions may travel on the other lane."""
    owner.open()
    owner.tranche(b"a")
    lease = owner.lease(b"a")

    assert owner.intake.accept(lease) == Parked()
    assert owner.function() == [lease]
    assert isinstance(owner.intake.accept(lease), Accepted)


def test_leases_that_waited_are_forgotten_with_their_job(owner) -> None:
    config = ExecutorConfig(window_units_max=256, queue_units_max=256)
    owner.intake = Intake(owner.certified, owner.mesh, owner.store, config)
    owner.open()
    owner.tranche(b"a")
    owner.intake.accept(owner.lease(*[b"a"] * 256))
    owner.intake.job_ended(owner.job)

    owner.body = owner.manifest(name="another")
    owner.job = job_id(owner.body)
    owner.open()
    owner.tranche(b"a")

    assert owner.intake.accept(owner.lease(b"a")) == Parked()


def test_what_arrives_of_a_job_that_has_ended_is_ignored_and_its_leases_go_back(owner) -> None:
    owner.open()
    owner.function()
    owner.tranche(b"a")
    owner.intake.job_ended(owner.job)

    owner.open()
    owner.tranche(b"a")

    assert owner.function() == []
    assert owner.intake.accept(owner.lease(b"a")) == HandBack()
    assert not owner.store.has(owner.job, DIGEST)


def test_a_tranche_that_was_dropped_gives_its_leases_back(owner) -> None:
    owner.open()
    owner.function()
    count = DIGESTS_KEPT // TRANCHE_UNITS_MAX + 1
    for sequence in range(count):
        owner.tranche(*[b"a"] * TRANCHE_UNITS_MAX, sequence=sequence, first=sequence * TRANCHE_UNITS_MAX)

    assert owner.intake.accept(owner.lease(b"a")) == HandBack()
    newest = owner.lease(b"a", tranche=count - 1, first=(count - 1) * TRANCHE_UNITS_MAX)
    assert isinstance(owner.intake.accept(newest), Accepted)


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"mesh": bytes(20)}, "another mesh"), ({"submitter": bytes(20)}, "another submitter")],
)
def test_a_manifest_of_somebody_else_is_refused(owner, changes, why) -> None:
    with pytest.raises(NotAllowed, match=why):
        owner.open(owner.manifest(**changes))


def test_a_node_without_the_role_submits_nothing() -> None:
    with pytest.raises(NotAllowed, match="no role submitter"):
        Owner(frozenset({Role.WORKER})).open()


def test_a_manifest_signed_in_another_domain_is_refused(owner) -> None:
    with pytest.raises(BadSignature):
        owner.intake.open_job(JobOpen(owner.sign(Domain.TRANCHE, owner.body)))


def test_a_tranche_of_another_job_is_refused(owner) -> None:
    owner.open()

    with pytest.raises(BadSignature, match="another job"):
        owner.tranche(b"a", job=JobId(bytes(20)))


def test_a_tranche_whose_digests_are_not_whole_is_refused(owner) -> None:
    owner.open()
    body = encode_record(Tranche(owner.job, 0, 0, bytes(33)))

    with pytest.raises(MalformedMessage):
        owner.intake.open_tranche(TrancheOpen(owner.job, owner.sign(Domain.TRANCHE, body)))


def test_a_unit_that_calls_a_function_beyond_its_leases_list_is_refused(owner) -> None:
    owner.open()
    owner.function()
    owner.tranche(b"a")
    lease = LeaseGrant(owner.job, 1, 0, 1_000, [DIGEST], [LeasedUnit(0, 0, 1, b"a")])

    with pytest.raises(UnexpectedMessage):
        owner.intake.accept(lease)


def test_an_owner_has_no_more_open_jobs_than_the_bound(owner, monkeypatch) -> None:
    monkeypatch.setattr(intake, "OPEN_JOBS_MAX", 2)
    for name in "ab":
        owner.open(owner.manifest(name=name))

    with pytest.raises(NotAllowed, match="open jobs"):
        owner.open(owner.manifest(name="c"))


def test_a_user_fills_the_store_of_functions_up_to_its_bound_only(owner, monkeypatch) -> None:
    monkeypatch.setattr(functions, "FUNCTION_BYTES_OF_SUBMITTER_MAX", 2 * (len(FUNCTION) + FUNCTION_OVERHEAD))
    owner.open()
    owner.function()
    owner.function()
    owner.intake.add_function(FunctionData(owner.job, FUNCTION[::-1]))
    assert isinstance(owner.intake.accept(owner.lease(b"a")), HandBack)

    owner.intake.add_function(FunctionData(owner.job, b"one more"))
    assert isinstance(owner.intake.accept(owner.lease(b"a")), Refused)
    owner.intake.close()
    assert not owner.store.has(owner.job, DIGEST)


def test_two_jobs_that_ship_the_same_function_share_it_until_the_last_ends(owner) -> None:
    owner.open()
    owner.function()
    first, owner.body = owner.job, owner.manifest(name="second")
    owner.job = job_id(owner.body)
    owner.open()
    owner.function()

    owner.intake.job_ended(first)
    assert owner.store.get(DIGEST) == FUNCTION
    owner.intake.job_ended(owner.job)
    with pytest.raises(KeyError):
        owner.store.get(DIGEST)


def test_a_lease_waits_for_the_lock_of_its_jobs_environment_too(owner) -> None:
    """It is shipped as a function that no unit calls, and may come last."""
    lock = b"six==1.17.0 \\\n    --hash=sha256:" + b"a" * 64 + b"\n"
    owner.body = owner.manifest(needs=Needs(environment=function_digest(lock)))
    owner.job = job_id(owner.body)
    owner.open()
    owner.tranche(b"a")
    owner.function()
    lease = owner.lease(b"a")

    assert owner.intake.accept(lease) == Parked()
    assert owner.intake.add_function(FunctionData(owner.job, lock)) == [lease]
    assert isinstance(owner.intake.accept(lease), Accepted)
    assert owner.store.find(function_digest(lock)) == lock
    owner.intake.job_ended(owner.job)
    assert owner.store.find(function_digest(lock)) is None
