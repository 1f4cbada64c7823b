"""A rig that plays shell and executors around an owner's machine, and checks what must hold at every step."""

import random
from collections.abc import Callable
from typing import TypeVar

import pytest

from meshd_node.core.owner.config import OwnerConfig
from meshd_node.core.owner.effects import Deliver, Disagreement, Effect, JobFinished, Journal, Lease, Recall, Wake
from meshd_node.core.owner.events import (
    AttemptsFailed,
    CreditGranted,
    Event,
    ExecutorChanged,
    ExecutorView,
    JobAccepted,
    ResultsArrived,
    UnitsSubmitted,
)
from meshd_node.core.owner.journal import LeaseEntry
from meshd_node.core.owner.machine import Owner
from meshd_node.core.submitter import Submitter
from meshd_protocol.ids import Digest, JobId, NodeId, function_digest, result_digest
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus
from meshd_protocol.messages.local import Outcome
from meshd_protocol.records import CageLevel, Gpu, Needs, Offer, Phase, Policy, Runtime

FUNCTION = function_digest(b"a function")
EffectT = TypeVar("EffectT", bound=Effect)


class Rig:
    """Names nodes and jobs by letters. `leases` are those not answered yet; `delivered` is what the submitter has."""

    def __init__(self, seed: int = 0, config: OwnerConfig | None = None) -> None:
        self.owner = Owner(self.node_id("owner"), random.Random(seed), config or OwnerConfig())
        self.now = 0.0
        self.leases: list[Lease] = []
        self.delivered: dict[JobId, dict[int, Outcome]] = {}
        self.finished: dict[JobId, JobFinished] = {}
        self.recalls: list[Recall] = []
        self.disagreements: list[Disagreement] = []
        self.tranches: dict[JobId, int] = {}
        self.submitted: dict[JobId, int] = {}
        self.wake: float | None = None

    @staticmethod
    def node_id(name: str) -> NodeId:
        return NodeId(name.encode().ljust(20, b"."))

    @staticmethod
    def job_id(name: str) -> JobId:
        return JobId(name.encode().ljust(20, b"#"))

    def send(self, event: Event) -> list[Effect]:
        effects = self.owner.handle(event, self.now)
        self._check_journal_comes_first(effects)
        for effect in effects:
            self._note(effect)
        return effects

    def view(
        self,
        name: str,
        *,
        operator: str = "lab",
        trusted: bool = True,
        accepts: bool = True,
        slots: int = 2,
        gpus: int = 0,
        pythons: tuple[str, ...] = ("3.11",),
        cpu_milli: int = 8_000,
        memory_bytes: int = 1 << 34,
        phase: Phase = Phase.ALIVE,
        loops_per_s: int = 10_000_000,
        cage: CageLevel = CageLevel.STRICT,
        runtimes: tuple[Runtime, ...] = (Runtime.PYTHON,),
    ) -> ExecutorView:
        cards = [Gpu(f"gpu-{number}", "model", 1 << 34) for number in range(gpus)]
        offer = Offer(
            phase, cpu_milli, memory_bytes, cards, slots, list(pythons), "linux", loops_per_s, cage, False, runtimes
        )
        return ExecutorView(self.node_id(name), operator, trusted, accepts, offer, 0.001)

    def node(self, name: str, *, window: int = 256, window_bytes: int = 1 << 22, **view: object) -> NodeId:
        self.send(ExecutorChanged(self.view(name, **view)))  # type: ignore[arg-type]
        self.send(CreditGranted(self.node_id(name), window, window_bytes))
        return self.node_id(name)

    def job(
        self,
        name: str = "job",
        *,
        uid: int = 1,
        policy: Policy | None = None,
        needs: Needs | None = None,
        detached: bool = False,
        only: NodeId | None = None,
    ) -> JobId:
        job = self.job_id(name)
        submitter = Submitter(self.node_id("owner"), uid)
        self.send(JobAccepted(job, name, submitter, policy or Policy(), needs or Needs(), detached, only))
        return job

    def submit(self, job: JobId, count: int, size: int = 8) -> list[Effect]:
        first, tranche = self.submitted.get(job, 0), self.tranches.get(job, 0)
        self.submitted[job], self.tranches[job] = first + count, tranche + 1
        return self.send(UnitsSubmitted(job, tranche, first, [FUNCTION] * count, [b"p" * size] * count))

    def result(self, lease: Lease, row: int, value: bytes = b"right") -> tuple[AttemptResult, Digest]:
        result = AttemptResult(lease.indices[row], lease.attempts[row], AttemptStatus.RETURNED, value, 100)
        return result, result_digest(result.status, value)

    def answer(self, lease: Lease, value: bytes = b"right") -> list[Effect]:
        """Let the executor of a lease return this for all of its units."""
        self.leases.remove(lease)
        pairs = [self.result(lease, row, value) for row in range(len(lease.indices))]
        results, digests = [result for result, _ in pairs], [digest for _, digest in pairs]
        return self.send(ResultsArrived(lease.node, lease.job, lease.epoch, results, digests))

    def fail(self, lease: Lease, status: AttemptStatus, detail: str = "") -> list[Effect]:
        """Let all attempts of a lease end like this."""
        self.leases.remove(lease)
        ends = [
            AttemptResult(index, attempt, status, b"", 0, detail)
            for index, attempt in zip(lease.indices, lease.attempts, strict=True)
        ]
        return self.send(AttemptsFailed(lease.node, lease.job, lease.epoch, ends))

    def leased(self) -> dict[NodeId, int]:
        """How many units each node was given and has not answered."""
        counts: dict[NodeId, int] = {}
        for lease in self.leases:
            counts[lease.node] = counts.get(lease.node, 0) + len(lease.indices)
        return counts

    def _note(self, effect: Effect) -> None:
        match effect:
            case Lease():
                assert effect.indices
                self.leases.append(effect)
            case Deliver(job, outcomes):
                known = self.delivered.setdefault(job, {})
                for outcome in outcomes:
                    assert outcome.index not in known, "a unit is delivered once"
                    known[outcome.index] = outcome
            case JobFinished(job):
                assert job not in self.finished, "a job finishes once"
                assert len(self.delivered.get(job, {})) == self.submitted.get(job, 0), "after all its deliveries"
                self.finished[job] = effect
            case Recall():
                self.recalls.append(effect)
            case Disagreement():
                self.disagreements.append(effect)
            case Wake(at):
                self.wake = at
            case Journal():
                pass

    @staticmethod
    def _check_journal_comes_first(effects: list[Effect]) -> None:
        promises = [effect for effect in effects if isinstance(effect, Lease | Deliver | JobFinished)]
        if not promises:
            return
        journal = effects[0]
        assert isinstance(journal, Journal), "journal before promise"
        written = {
            (entry.node, entry.job, index)
            for entry in journal.entries
            if isinstance(entry, LeaseEntry)
            for index in entry.indices
        }
        for lease in promises:
            if isinstance(lease, Lease):
                assert all((lease.node, lease.job, index) in written for index in lease.indices)


@pytest.fixture
def make_rig() -> Callable[..., Rig]:
    """For tests that choose a seed or a configuration."""
    return Rig


@pytest.fixture
def rig() -> Rig:
    """An owner without nodes or jobs."""
    return Rig()
