"""Jobs as their users will submit, pause and cancel them, drawn before the world begins."""

import random
from dataclasses import dataclass, field
from typing import Final

from meshd_protocol.records import Needs, Policy
from meshd_sim.jobs.tasks import Kind, Task

POLICIES: Final = [
    Policy(),
    Policy(),
    Policy(replicas=1),
    Policy(replicas=2),
    Policy(replicas=3, quorum=2),
    Policy(replicas=3, quorum=3, failures_max=5),
    Policy(replicas=0, quorum=2, failures_max=8),
    Policy(pure=False),
    Policy(replicas=1, pure=False),
]
# Every node has room for each of these, though for fewer of them at a time.
_NEEDS: Final = [Needs(), Needs(), Needs(cpu_milli=500), Needs(memory_bytes=6 << 30)]
# What a user who has a time limit takes: far above what a unit takes on the slowest node, but for those that hang.
_TIMEOUT_MS: Final = 20_000
_KINDS: Final = [Kind.RETURNS] * 12 + [Kind.RAISES]
_ODD_KINDS: Final = [*_KINDS, Kind.KILLS, Kind.BABBLES]


@dataclass(frozen=True, slots=True)
class Submission:
    """A tranche, so long after its job was opened."""

    after_s: float
    tasks: list[Task]


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What is not wanted any more from some time on; `indices` None: the whole job."""

    after_s: float
    indices: list[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """One job, all times in seconds: `opens_at` from the world's beginning, others from then."""

    number: int
    uid: int
    policy: Policy
    needs: Needs
    detached: bool
    opens_at: float
    submissions: list[Submission]
    closes_after_s: float
    cancellations: list[Cancellation] = field(default_factory=list)
    pause: tuple[float, float] | None = None  # its beginning and its end

    @property
    def tasks(self) -> list[Task]:
        """All units by index."""
        return [task for submission in self.submissions for task in submission.tasks]


def draw_plan(number: int, rng: random.Random, *, within_s: float) -> JobPlan:
    """One job of any sort, submitted within that time."""
    policy = rng.choice(POLICIES)
    odd = rng.random() < 0.25
    if odd:
        # Units that hang end by their time limit only.
        policy = Policy(policy.replicas, policy.quorum, policy.failures_max, _TIMEOUT_MS, policy.pure)
    kinds = [*_ODD_KINDS, Kind.HANGS] if odd else rng.choice([_KINDS, _ODD_KINDS])
    typical_us = rng.choice([50, 2_000, 40_000, 400_000])
    submissions = _submissions(rng, kinds, typical_us, within_s / 2)
    last = submissions[-1].after_s
    units = sum(len(submission.tasks) for submission in submissions)
    return JobPlan(
        number=number,
        uid=rng.randint(1, 2),
        policy=policy,
        needs=_NEEDS[units % len(_NEEDS)],
        detached=rng.random() < 0.3,
        opens_at=rng.uniform(0.0, within_s / 2),
        submissions=submissions,
        closes_after_s=last + rng.choice([0.0, 0.1, 5.0]),
        cancellations=_cancellations(rng, units, within_s),
        pause=(last / 2, last / 2 + rng.uniform(0.1, 10.0)) if rng.random() < 0.2 else None,
    )


def _submissions(rng: random.Random, kinds: list[Kind], typical_us: int, within_s: float) -> list[Submission]:
    """Up to four tranches, fewer units the longer they take."""
    most = 60 if typical_us < 100_000 else 12
    after_s, index = 0.0, 0
    submissions = []
    for _ in range(rng.randint(1, 4)):
        count = rng.randint(1, most)
        tasks = [
            Task(rng.choice(kinds), index + offset, int(typical_us * rng.uniform(0.5, 3.0))) for offset in range(count)
        ]
        submissions.append(Submission(after_s, tasks))
        index += count
        after_s += rng.choice([0.0, rng.uniform(0.0, within_s / 4)])
    return submissions


def _cancellations(rng: random.Random, units: int, within_s: float) -> list[Cancellation]:
    cancellations = []
    if rng.random() < 0.3:
        indices = sorted(rng.sample(range(units), rng.randint(1, units)))
        cancellations.append(Cancellation(rng.uniform(0.0, within_s / 2), indices))
    if rng.random() < 0.15:
        cancellations.append(Cancellation(rng.uniform(0.0, within_s / 2), None))
    return cancellations
