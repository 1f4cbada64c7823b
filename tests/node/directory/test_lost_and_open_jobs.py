"""When members are looked for, and which jobs are worth a word."""

import itertools
from types import SimpleNamespace

from meshd_node.services.directory.lost import AT_ONCE, PAUSE_FIRST_S, PAUSE_LAST_S, Lost
from meshd_node.services.directory.open_jobs import TOLD_MAX, OpenJobs
from meshd_protocol.ids import JobId, NodeId


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(20, "big"))


def test_lost_node_is_looked_for_ever_more_seldom() -> None:
    lost = Lost()
    looked_at = []
    for minute in range(3 * 24 * 60):
        if lost.may_look(node(1), minute * 60.0):
            looked_at.append(minute * 60.0)
            lost.found(node(1))

    pauses = [later - sooner for sooner, later in itertools.pairwise(looked_at)]
    assert pauses[:3] == [PAUSE_FIRST_S, 2 * PAUSE_FIRST_S, 4 * PAUSE_FIRST_S]
    assert max(pauses) == PAUSE_LAST_S
    assert len(looked_at) < 25


def test_few_are_looked_for_at_once_and_none_twice() -> None:
    lost = Lost()
    begun = [lost.may_look(node(number), 0.0) for number in range(10)]

    assert begun == [True] * AT_ONCE + [False] * (10 - AT_ONCE)
    assert not lost.may_look(node(0), 1e9)
    lost.found(node(0))
    assert lost.may_look(node(9), 0.0)


def test_node_that_was_there_again_is_looked_for_at_once_when_it_is_lost_again() -> None:
    lost = Lost()
    lost.may_look(node(1), 0.0)
    lost.found(node(1))
    lost.seen(node(1))

    assert lost.may_look(node(1), 0.0)


class Directory:
    def __init__(self) -> None:
        self.told: list[JobId] = []

    def own(self, job: JobId, epoch: int) -> None:
        assert epoch == 0 or epoch == 1
        self.told.append(job)

    def disown(self, job: JobId) -> None:
        self.told.remove(job)


def job(number: int, ended: float | None = None) -> SimpleNamespace:
    return SimpleNamespace(job=JobId(number.to_bytes(20, "big")), ended=ended)


def test_job_that_lasts_is_told_of_until_it_ends_and_a_short_one_never() -> None:
    jobs, directory = [job(1), job(2)], Directory()
    looks = OpenJobs(lambda: jobs, directory)
    looks.look()
    assert directory.told == []
    jobs[:] = [job(1), job(2, ended=5.0), job(3)]
    looks.look()
    assert directory.told == [job(1).job]
    jobs[:] = [job(1, ended=9.0), job(2, ended=5.0), job(3)]
    looks.look()

    assert directory.told == [job(3).job]


def test_of_many_jobs_the_newest_are_told_of() -> None:
    jobs, directory = [job(number) for number in range(50)], Directory()
    looks = OpenJobs(lambda: jobs, directory)
    for _ in range(3):
        looks.look()

    assert directory.told == [each.job for each in jobs[-TOLD_MAX:]]
