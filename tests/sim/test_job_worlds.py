"""Owners and executors in worlds in which nodes crash, freeze, lie and are revoked: what was promised holds, always."""

from collections import Counter

import pytest

from meshd_node.core.owner.plan import Plan
from meshd_sim.__main__ import main
from meshd_sim.jobs.world import JobOptions, run_jobs

SIZES = (3, 4, 5, 6, 7, 8, 9)
# What must have been seen in these worlds, or they prove less than they seem to.
SEEN = {"returned", "raised", "failed", "cancelled", "retried", "recalled", "disagreed", "jobs done", "jobs failed"}


def run(seeds: range, **options: object) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        try:
            seen += run_jobs(seed, JobOptions(nodes=SIZES[seed % len(SIZES)], **options)).seen  # type: ignore[arg-type]
        except Exception as error:
            error.add_note(f"repeat with seed={seed}, nodes={SIZES[seed % len(SIZES)]}")
            raise
    return seen


@pytest.mark.parametrize("first", range(0, 24, 8))
def test_every_job_ends_rightly_though_nodes_crash_leave_refuse_and_lie(first: int) -> None:
    """One ring of colluders has one vote: it is never believed, however many nodes it brings."""
    seen = run(range(first, first + 8))

    assert seen.keys() >= SEEN


def test_in_a_world_without_faults_every_job_ends_too() -> None:
    seen = run(range(10), faults=frozenset())

    assert seen["jobs done"] > 0
    assert seen["jobs lost"] == 0


def test_one_node_alone_and_two_do_their_own_jobs() -> None:
    for nodes in (1, 2):
        report = run_jobs(0, JobOptions(nodes=nodes, faults=frozenset()))
        assert report.seen["returned"] > 0


def test_the_same_seed_is_the_same_world() -> None:
    one, other = (run_jobs(5, JobOptions()) for _ in range(2))

    assert one == other
    assert one.trace != run_jobs(6, JobOptions()).trace


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_a_thousand_worlds_of_jobs_hold() -> None:
    run(range(1_000, 2_000))


def test_a_failure_names_the_seed_the_command_and_the_fewest_faults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Plan, "verdict", lambda self, trial: trial.votes[0].digest)

    status = main(["--jobs", "6", "--nodes", "5", "--seed", "0"])

    assert status == 1
    failed, again, least = capsys.readouterr().out.splitlines()
    assert failed.startswith("FAILED: invariant 1: ")
    assert again == "again: python -m meshd_sim --jobs 6 --seed 0 --nodes 5 --minutes 1 --faults all"
    assert least == "least: python -m meshd_sim --jobs 6 --seed 0 --nodes 5 --minutes 1 --faults none"


def test_what_the_command_says_of_a_seed_that_held(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--jobs", "2", "--nodes", "3", "--seed", "1", "--faults", "kill,liars"]) == 0

    assert "units" in capsys.readouterr().out


def test_the_command_refuses_a_fault_that_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--jobs", "2", "--faults", "locusts"])

    assert "'locusts' is not none, all, or kinds of: kill, outage" in capsys.readouterr().err
