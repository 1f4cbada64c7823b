"""Whatever happens, in whatever order: the owner's promises, by a rule machine. Its worlds are in tests/sim."""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshd_node.core.owner.config import OwnerConfig
from meshd_node.core.owner.effects import Deliver, Effect, JobFinished, Journal, Lease, Recall, Wake
from meshd_node.core.owner.events import (
    AttemptsFailed,
    CreditGranted,
    DeliveryPaused,
    DeliveryResumed,
    Event,
    ExecutorChanged,
    ExecutorLost,
    ExecutorRevoked,
    ExecutorView,
    JobAccepted,
    JobClosed,
    JobForgotten,
    ResultsArrived,
    Tick,
    UnitsCancelled,
    UnitsSubmitted,
)
from meshd_node.core.owner.journal import LeaseEntry, VerdictEntry
from meshd_node.core.owner.machine import Owner
from meshd_node.core.submitter import Submitter
from meshd_protocol.ids import Digest, JobId, NodeId, result_digest
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus, UnitStatus
from meshd_protocol.messages.local import Outcome
from meshd_protocol.records import CageLevel, Needs, Offer, Phase, Policy

OWNER = NodeId(b"owner".ljust(20, b"."))
FUNCTION = Digest(b"f" * 32)
POLICIES = [
    Policy(),
    Policy(replicas=1),
    Policy(replicas=2),
    Policy(replicas=3, quorum=2),
    Policy(replicas=3, quorum=3, failures_max=5),
    Policy(pure=False),
]


@dataclass
class Held:
    """One attempt that a node was given and has neither answered nor been told to forget."""

    node: NodeId
    job: JobId
    index: int
    attempt: int
    size: int


class Vote(NamedTuple):
    """What one node said of a unit."""

    node: NodeId
    voter: object
    trusted: bool
    digest: Digest


@dataclass
class Submitted:
    """What the submitter knows of a job."""

    policy: Policy
    units: int = 0
    tranches: int = 0
    closed: bool = False
    paused: bool = False
    state: str = ""
    ends: dict[int, Outcome] = field(default_factory=dict)


class Watched:
    """An owner and a checker that knows only events and effects: its books are its own."""

    def __init__(self, seed: int) -> None:
        self.owner = Owner(OWNER, random.Random(seed), OwnerConfig(half_done_max=8, backoff_max_s=2.0))
        self.now = 0.0
        self.views: dict[NodeId, ExecutorView] = {}
        self.windows: dict[NodeId, tuple[int, int]] = {}
        self.jobs: dict[JobId, Submitted] = {}
        self.held: dict[tuple[NodeId, JobId, int], Held] = {}
        self.votes: dict[tuple[JobId, int], list[Vote]] = {}
        self.wake: float | None = None

    def send(self, event: Event) -> list[Effect]:
        effects = self.owner.handle(event, self.now)
        assert not any(isinstance(effect, Journal) for effect in effects[1:]), "one journal, and it comes first"
        entries = effects[0].entries if effects and isinstance(effects[0], Journal) else []
        leased = {(e.node, e.job, i) for e in entries if isinstance(e, LeaseEntry) for i in e.indices}
        digests = {
            (e.job, i): d
            for e in entries
            if isinstance(e, VerdictEntry)
            for i, d in zip(e.indices, e.digests, strict=True)
        }
        for effect in effects:
            self._watch(effect, leased, digests)
        return effects

    def results(self, held: list[Held], value: bytes) -> None:
        """One node answers attempts of one job with `value`."""
        node, job = held[0].node, held[0].job
        digest = result_digest(0, value)
        for each in held:
            del self.held[each.node, each.job, each.index]
            view = self.views[node]
            voter: object = node if view.trusted else view.operator
            self.votes.setdefault((job, each.index), []).append(Vote(node, voter, view.trusted, digest))
        answers = [AttemptResult(each.index, each.attempt, AttemptStatus.RETURNED, value, 50) for each in held]
        self.send(ResultsArrived(node, job, 1, answers, [digest] * len(held)))

    def failures(self, held: list[Held], status: AttemptStatus) -> None:
        """Attempts of one job on one node end without a result."""
        for each in held:
            del self.held[each.node, each.job, each.index]
        ends = [AttemptResult(each.index, each.attempt, status, b"") for each in held]
        self.send(AttemptsFailed(held[0].node, held[0].job, 1, ends))

    def lose(self, node: NodeId) -> None:
        """A node's session ends."""
        self._forget(node)
        self.send(ExecutorLost(node, "reset"))

    def revoke(self, node: NodeId) -> None:
        """A node has no voice any more: none of its votes may be among those that a verdict rests on."""
        self._forget(node)
        self.votes = {key: [vote for vote in votes if vote.node != node] for key, votes in self.votes.items()}
        self.send(ExecutorRevoked(node))

    def _forget(self, node: NodeId) -> None:
        for key in [key for key in self.held if key[0] == node]:
            del self.held[key]
        self.views.pop(node, None)
        self.windows.pop(node, None)

    def show(self, view: ExecutorView) -> None:
        """A node is seen."""
        self.views[view.node] = view
        self.send(ExecutorChanged(view))

    def grant(self, node: NodeId, units: int, size: int) -> None:
        """A node grants windows."""
        self.windows[node] = (units, size)
        self.send(CreditGranted(node, units, size))

    def submit(self, job: JobId, count: int, size: int) -> None:
        """One more tranche."""
        known = self.jobs[job]
        first, known.units = known.units, known.units + count
        known.tranches += 1
        self.send(UnitsSubmitted(job, known.tranches - 1, first, [FUNCTION] * count, [b"p" * size] * count))

    def batches(self) -> list[list[Held]]:
        """What is under way, by node and job."""
        batches: dict[tuple[NodeId, JobId], list[Held]] = {}
        for each in self.held.values():
            batches.setdefault((each.node, each.job), []).append(each)
        return list(batches.values())

    def _watch(self, effect: Effect, leased: set, digests: dict) -> None:
        match effect:
            case Lease():
                self._watch_lease(effect, leased)
            case Recall(node, job, _, indices):
                gone = [key for key in self.held if key[:2] == (node, job) and (not indices or key[2] in indices)]
                for key in gone:
                    del self.held[key]
            case Deliver(job, outcomes):
                for outcome in outcomes:
                    self._watch_outcome(job, outcome, digests)
            case JobFinished(job, state):
                known = self.jobs[job]
                assert known.closed, "only a closed job finishes"
                assert not known.state, "a job finishes once"
                assert len(known.ends) == known.units, "a job finishes after its last unit"
                known.state = state
            case Wake(at):
                self.wake = at

    def _watch_lease(self, lease: Lease, leased: set) -> None:
        view = self.views[lease.node]
        assert view.accepts, "nothing is sent to a node that does not accept"
        known = self.jobs[lease.job]
        assert not known.paused
        before = [each for each in self.held.values() if each.node == lease.node]
        for index, attempt, payload in zip(lease.indices, lease.attempts, lease.payloads, strict=True):
            key = (lease.node, lease.job, index)
            assert key in leased, "journal before promise"
            assert index not in known.ends, "an ended unit is not run"
            assert key not in self.held, "a node runs a unit once at a time"
            self.held[key] = Held(lease.node, lease.job, index, attempt, len(payload))
        units, size = self.windows[lease.node]
        now = [each for each in self.held.values() if each.node == lease.node]
        assert len(now) <= units, "windows in units are kept"
        assert sum(each.size for each in now) <= size or (not before and len(now) == 1), "windows in bytes are kept"

    def _watch_outcome(self, job: JobId, outcome: Outcome, digests: dict) -> None:
        known = self.jobs[job]
        assert outcome.index not in known.ends, "a unit is delivered once"
        known.ends[outcome.index] = outcome
        if outcome.status not in (UnitStatus.RETURNED, UnitStatus.RAISED):
            return
        digest = digests[job, outcome.index]
        assert digest == result_digest(outcome.status, outcome.value)
        votes = [vote for vote in self.votes[job, outcome.index] if vote.digest == digest]
        self._watch_quorum(known.policy, votes)

    @staticmethod
    def _watch_quorum(policy: Policy, votes: list[Vote]) -> None:
        voters = len({vote.voter for vote in votes})
        if policy.replicas == 0 and policy.quorum == 0:
            assert voters >= 2 or any(vote.trusted for vote in votes), "no single stranger is believed"
        else:
            assert voters >= (policy.quorum or policy.replicas // 2 + 1), "a quorum of distinct voters"

    def check_nothing_is_left(self) -> None:
        """After all jobs were forgotten, no table holds anything of them."""
        for job in list(self.jobs):
            self.send(JobForgotten(job))
        assert self.owner.jobs() == []
        assert all(each.held_units == each.held_bytes == 0 for each in self.owner.executors())
        dispatch = self.owner._dispatch
        assert len(dispatch._rota) == 0
        assert dispatch._parked == {}
        assert all(not each.held for each in self.owner._executors.all())


def node_view(number: int, *, trusted: bool, accepts: bool = True, operator: str = "", slots: int = 2) -> ExecutorView:
    offer = Offer(Phase.ALIVE, 8_000, 1 << 34, [], slots, ["3.11"], "linux", 10**7, CageLevel.STRICT, False)
    node = NodeId(b"%d" % number + b"." * 19)
    return ExecutorView(node, operator or f"op{number}", trusted, accepts, offer, 0.001)


# --- any order of events ----------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Events in any order that a shell could send."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Watched(0)

    @rule(
        number=st.integers(0, 4), trusted=st.booleans(), accepts=st.booleans(), operator=st.sampled_from(["", "ring"])
    )
    def see_node(self, number: int, trusted: bool, accepts: bool, operator: str) -> None:
        self.world.show(node_view(number, trusted=trusted, accepts=accepts, operator=operator))

    @precondition(lambda self: self.world.views)
    @rule(data=st.data(), units=st.integers(0, 6), size=st.integers(0, 60))
    def grant(self, data: st.DataObject, units: int, size: int) -> None:
        self.world.grant(data.draw(st.sampled_from(list(self.world.views))), units, size)

    @precondition(lambda self: self.world.views)
    @rule(data=st.data())
    def lose_node(self, data: st.DataObject) -> None:
        self.world.lose(data.draw(st.sampled_from(list(self.world.views))))

    @rule(number=st.integers(0, 4))
    def revoke_node(self, number: int) -> None:
        self.world.revoke(node_view(number, trusted=False).node)

    @precondition(lambda self: len(self.world.jobs) < 6)
    @rule(policy=st.sampled_from(POLICIES), uid=st.integers(1, 2))
    def open_job(self, policy: Policy, uid: int) -> None:
        job = JobId(b"%d" % len(self.world.jobs) + b"#" * 19)
        self.world.jobs[job] = Submitted(policy)
        self.world.send(JobAccepted(job, "job", Submitter(OWNER, uid), policy, Needs()))

    def _some_job(self, data: st.DataObject) -> JobId:
        return data.draw(st.sampled_from(list(self.world.jobs)))

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), count=st.integers(1, 8), size=st.integers(0, 40))
    def submit(self, data: st.DataObject, count: int, size: int) -> None:
        job = self._some_job(data)
        if not self.world.jobs[job].closed:
            self.world.submit(job, count, size)

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        job = self._some_job(data)
        self.world.jobs[job].closed = True
        self.world.send(JobClosed(job))

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), indices=st.none() | st.lists(st.integers(0, 20), max_size=4))
    def cancel(self, data: st.DataObject, indices: list[int] | None) -> None:
        job = self._some_job(data)
        self.world.jobs[job].closed |= indices is None
        self.world.send(UnitsCancelled(job, indices))

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), paused=st.booleans())
    def pause(self, data: st.DataObject, paused: bool) -> None:
        job = self._some_job(data)
        self.world.jobs[job].paused = paused
        self.world.send(DeliveryPaused(job) if paused else DeliveryResumed(job))

    @precondition(lambda self: self.world.held)
    @rule(data=st.data(), value=st.sampled_from([b"right", b"right", b"wrong"]))
    def answer(self, data: st.DataObject, value: bytes) -> None:
        batch = data.draw(st.sampled_from(self.world.batches()))
        self.world.results(batch[: data.draw(st.integers(1, len(batch)))], value)

    @precondition(lambda self: self.world.held)
    @rule(data=st.data(), status=st.sampled_from(list(AttemptStatus)[2:]))
    def fail(self, data: st.DataObject, status: AttemptStatus) -> None:
        batch = data.draw(st.sampled_from(self.world.batches()))
        self.world.failures(batch[: data.draw(st.integers(1, len(batch)))], status)

    @precondition(lambda self: self.world.jobs and self.world.views)
    @rule(data=st.data(), index=st.integers(0, 20), attempt=st.integers(0, 3), epoch=st.integers(0, 2))
    def forge(self, data: st.DataObject, index: int, attempt: int, epoch: int) -> None:
        """A node answers for what it does not hold, or in another epoch."""
        job, node = self._some_job(data), data.draw(st.sampled_from(list(self.world.views)))
        held = self.world.held.get((node, job, index))
        if held is not None and held.attempt == attempt and epoch == 1:
            return
        result = AttemptResult(index, attempt, AttemptStatus.RETURNED, b"forged")
        effects = self.world.send(ResultsArrived(node, job, epoch, [result], [result_digest(0, b"forged")]))
        assert not any(isinstance(effect, Deliver) for effect in effects)

    @rule(seconds=st.sampled_from([0.1, 1.0, 90.0]))
    def pass_time(self, seconds: float) -> None:
        self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        self.world.now += seconds
        if self.world.wake is not None and self.world.wake <= self.world.now:
            self.world.wake = None
            self.world.send(Tick())

    @invariant()
    def counts_add_up(self) -> None:
        for summary in self.world.owner.jobs():
            ended = summary.done + summary.failed + summary.cancelled
            known = self.world.jobs[summary.job]
            running = {each.index for each in self.world.held.values() if each.job == summary.job}
            assert summary.units == known.units
            assert ended == len(known.ends)
            assert summary.running == len(running)
            assert summary.waiting == known.units - ended - len(running)
        for each in self.world.owner.executors():
            held = [unit for unit in self.world.held.values() if unit.node == each.node]
            assert (each.held_units, each.held_bytes) == (len(held), sum(unit.size for unit in held))

    @invariant()
    def why_has_an_answer_for_every_unit(self) -> None:
        for job, known in self.world.jobs.items():
            assert self.world.owner.why(job, None, self.world.now)
            if known.units:
                assert self.world.owner.why(job, known.units - 1, self.world.now)

    def teardown(self) -> None:
        """Every unit of a closed job ends, once enough nodes are there and answer."""
        self._bring_good_nodes()
        for job, known in self.world.jobs.items():
            known.paused, known.closed = False, True
            self.world.send(DeliveryResumed(job))
            self.world.send(JobClosed(job))
        for _ in range(200):
            if not self.world.held and all(known.state for known in self.world.jobs.values()):
                break
            for batch in self.world.batches():
                still = [each for each in batch if (each.node, each.job, each.index) in self.world.held]
                if still:
                    self.world.results(still, b"right")
            self._pass(1.0)
        for job, known in self.world.jobs.items():
            assert known.state, ("every closed job ends", self.world.owner.why(job, None, self.world.now))
        self.world.check_nothing_is_left()

    def _bring_good_nodes(self) -> None:
        for number in range(20, 30):
            view = node_view(number, trusted=True)
            self.world.show(view)
            self.world.grant(view.node, 50, 1 << 20)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
