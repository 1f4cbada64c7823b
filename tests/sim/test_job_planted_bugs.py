"""Each bug that is planted here breaks a promise, and the rules must see it: a rule that never fails proves nothing."""

from collections.abc import Callable

import pytest

from meshd_node.core.executor import crew
from meshd_node.core.executor import events as executor_events
from meshd_node.core.executor.machine import Executor
from meshd_node.core.owner import endings, retry, unit
from meshd_node.core.owner import executors as owner_executors
from meshd_node.core.owner import machine as owner_machine
from meshd_node.core.owner.effects import Journal
from meshd_node.core.owner.plan import Plan
from meshd_node.core.owner.shelves import Exclusion
from meshd_node.core.owner.timers import Timers
from meshd_node.core.owner.turn import Turn
from meshd_sim.checkers.broken import Broken
from meshd_sim.jobs.world import JobOptions, run_jobs

SEEDS = 40
# Where to look first: most bugs show at once, some need what few worlds have.
FIRST_SEEDS = {"no look at leases": 25, "no starvation rule": 11, "a revoked node's votes kept": 10}
HANDLE = Executor.handle


class NodesAreVoters(owner_executors.Executors):
    """Nodes are counted where operators should be."""

    def show(self, view):
        super().show(view)
        self._all[view.node].voter = view.node


class CountsTwice(unit.Trial):
    """A vote counts for two."""

    __slots__ = ()

    def vote(self, vote, result):
        super().vote(vote, result)
        self.agreed += 1


class KeepsVoices(unit.Trial):
    """A revoked node's votes stay."""

    __slots__ = ()

    def disown(self, node):
        return False


class ForgetsTheLost(endings.Endings):
    """What a lost node held is not tried again."""

    def node_lost(self, executor, jobs, reason, turn):
        pass


class WritesLate(Turn):
    """The journal is written after the promises."""

    def effects(self):
        done = super().effects()
        return [each for each in done if not isinstance(each, Journal)] + [
            each for each in done if isinstance(each, Journal)
        ]


class DeliversTwice(Turn):
    """Whoever waits is told everything again."""

    def _deliveries(self):
        return super()._deliveries() * 2


class CancelsNothing(Turn):
    """Nobody is told that a unit ended."""

    def recall(self, node, job, index):
        pass


class IgnoresWindows(owner_executors.Executor):
    """A node is given work whatever it granted."""

    __slots__ = ()

    def is_open(self):
        return self.accepts


class TurnsFromHire(crew.Worker):
    """A worker's turn is over before it has started."""

    __slots__ = ()

    def note_ready(self, now):
        self.ready = True
        self.idle_since = now


def ignores_recalls(machine: Executor, event: executor_events.Event, now: float) -> list:
    """What nobody wants is run, and answered."""
    return HANDLE(machine, executor_events.Tick() if isinstance(event, executor_events.Recalled) else event, now)


def asks_again(trial):
    """Whoever voted may be asked again."""
    running = {grant.executor.node for grant in trial.running.values()}
    return Exclusion(frozenset(running), ())


PLANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], set[int]]] = {
    "nodes counted, not operators": (lambda m: m.setattr(owner_machine, "Executors", NodesAreVoters), {1, 15}),
    "a vote counted twice": (lambda m: m.setattr(unit, "Trial", CountsTwice), {1}),
    "a revoked node's votes kept": (lambda m: m.setattr(unit, "Trial", KeepsVoices), {1, 15}),
    "a node asked twice": (lambda m: m.setattr(retry, "exclusion_of", asks_again), {15}),
    "the first result believed": (lambda m: m.setattr(Plan, "verdict", lambda self, trial: trial.votes[0].digest), {1}),
    "no starvation rule": (lambda m: m.setattr(Plan, "hopeless", lambda self, trial: False), {4}),
    "no babel rule": (lambda m: m.setattr(endings.Endings, "_is_babel", lambda self, job, trial: False), {4}),
    "lost nodes' units forgotten": (lambda m: m.setattr(owner_machine, "Endings", ForgetsTheLost), {4, 15}),
    "no look at leases": (lambda m: m.setattr(Timers, "set", lambda self, at, due: None), {4}),
    "journal after promise": (lambda m: m.setattr(owner_machine, "Turn", WritesLate), {14}),
    "everything delivered twice": (lambda m: m.setattr(owner_machine, "Turn", DeliversTwice), {3}),
    "no cancel on finish": (lambda m: m.setattr(owner_machine, "Turn", CancelsNothing), {13, 15}),
    "windows ignored": (lambda m: m.setattr(owner_executors, "Executor", IgnoresWindows), {13}),
    "turns counted from the hire": (lambda m: m.setattr(crew, "Worker", TurnsFromHire), {4}),
    "recalls ignored": (lambda m: m.setattr(Executor, "handle", ignores_recalls), {7}),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found_within_few_seeds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, invariants = PLANTS[name]
    plant(monkeypatch)

    found = first_broken(FIRST_SEEDS.get(name, 0))

    assert found is not None, f"{SEEDS} seeds saw nothing of it"
    seed, broken = found
    assert broken.invariant in invariants, f"seed {seed}: {broken}"


def first_broken(first: int) -> tuple[int, Broken] | None:
    for seed in range(first, first + SEEDS):
        try:
            run_jobs(seed, JobOptions(nodes=3 + seed % 7))
        except Broken as broken:
            return seed, broken
    return None
