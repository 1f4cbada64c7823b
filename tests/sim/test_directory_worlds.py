"""The directory of a few hundred nodes in virtual time: what it finds when many die at once, and among liars."""

import pytest

from meshd_sim.directory.mischief import ALL, Mischief
from meshd_sim.directory.run import Plan, Run, Tally


def tallies(plan: Plan) -> tuple[Tally, Tally, Tally]:
    run = Run(plan)
    run.prepare()
    return run.lookups(), run.gets(thorough=False), run.gets(thorough=True)


def mean(figures: list[int]) -> float:
    return sum(figures) / len(figures)


def p95(figures: list[float]) -> float:
    return sorted(figures)[int(0.95 * (len(figures) - 1))]


@pytest.mark.parametrize("seed", range(2))
def test_everything_is_found_in_few_steps(seed: int) -> None:
    lookups, gets, thorough = tallies(Plan(nodes=100, seed=seed, operations=40, records=10))

    for tally in (lookups, gets, thorough):
        assert tally.right == tally.asked, f"{tally.name}; repeat with seed={seed}"
    assert mean(lookups.hops) <= 2.5
    assert mean(lookups.questions) <= 30


def test_everything_is_found_after_a_third_has_died_at_once() -> None:
    """Others: a get takes 2.5 s, a lookup 17.6 s, with a fifth of a hundred dead."""
    lookups, gets, thorough = tallies(Plan(nodes=100, kill=0.3, operations=40, records=10))

    for tally in (gets, thorough):
        assert tally.right >= 0.995 * tally.asked, tally.name
    assert lookups.right >= 0.98 * lookups.asked
    assert p95(lookups.seconds) <= 3.0


@pytest.mark.parametrize("mischief", ALL, ids=lambda mischief: mischief.__name__)
def test_fifth_of_the_nodes_lying_hides_nothing_and_forges_nothing(mischief: Mischief) -> None:
    lookups, gets, thorough = tallies(Plan(nodes=80, hostile=0.2, mischief=(mischief,), operations=25, records=10))

    for tally in (gets, thorough):
        assert tally.wrong == 0, tally.name
        assert tally.right >= 0.98 * tally.asked, tally.name
    assert thorough.outdated == 0
    assert lookups.right >= 0.98 * lookups.asked
    assert max(lookups.questions) <= 64
    # The goal of 3 s is for liars of all sorts among 500 nodes; among 80, a lookup meets a quarter of all there are.
    assert p95(lookups.seconds) <= 4.0


def test_same_seed_is_the_same_run() -> None:
    first, second = (
        tallies(Plan(nodes=60, hostile=0.2, kill=0.1, seed=7, operations=30, records=10)) for _ in range(2)
    )

    assert first == second
