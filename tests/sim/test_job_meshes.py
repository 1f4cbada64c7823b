"""Jobs on nodes that know each other by their real memberships, in one process with them as in the daemon."""

from collections import Counter

import pytest

from meshd_sim.jobs.mesh import run_mesh
from meshd_sim.jobs.world import JobOptions


def run(seeds: range) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        try:
            seen += run_mesh(seed, JobOptions(nodes=3 + seed % 8))
        except Exception as error:
            error.add_note(f"repeat with seed={seed}, nodes={3 + seed % 8}")
            raise
    return seen


def test_every_job_ends_on_a_mesh_that_crashes_splits_churns_and_revokes() -> None:
    seen = run(range(12))

    assert seen.keys() >= {"returned", "raised", "failed", "retried", "recalled", "jobs done", "jobs failed"}


def test_on_a_calm_mesh_no_job_is_lost() -> None:
    seen = run_mesh(1, JobOptions(nodes=5, faults=frozenset()))

    assert seen["returned"] > 0
    assert seen["jobs lost"] == 0


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_five_hundred_meshes_with_jobs_hold() -> None:
    run(range(1_000, 1_500))
