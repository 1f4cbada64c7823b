"""A look at a GPU is a unit like any other, on one node; what it shows decides what that node is given."""

import pickle
import random

import pytest
from msgspec.structs import replace

from meshd_node.core.owner.events import ExecutorView
from meshd_node.core.owner.spot_checks import SpotChecks
from meshd_node.exec import sight
from meshd_node.seams import KeySigner, Seams
from meshd_node.services.spot_checks import SpotCheckService
from meshd_protocol import values
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.local import OpenJob
from meshd_protocol.messages.peer import Credit
from meshd_protocol.records import CageLevel, Gpu, Needs, Offer, Phase, Policy

GIB = 1 << 30
NODE = NodeId(b"n" * 20)
UUID = "8f0a1b2c-0000-1111-2222-333344445555"
OFFER = Offer(Phase.ALIVE, 8_000, 1 << 34, [], 2, ["3.11"], "linux", 10_000_000, CageLevel.NONE, True)


class Reader:
    """A user's program."""

    def deliver(self, job, outcomes) -> None:
        pass

    def finished(self, job, state, reason) -> None:
        pass


@pytest.fixture
def me(daemon) -> NodeId:
    return daemon.jobs._node


@pytest.fixture
def service(daemon, me) -> SpotCheckService:
    """A node with a GPU, and a user who needs one; only that has a job so far."""
    offer = replace(OFFER, gpus=[Gpu(f"GPU-{UUID}", "T4", 16 * GIB)])
    daemon.jobs.executor_changed(ExecutorView(me, "lab", True, True, offer))
    daemon.jobs.credit(me, Credit(256, 1 << 30))
    seams = Seams(signer=KeySigner.__new__(KeySigner), monotonic=lambda: 0.0)
    return SpotCheckService(daemon.jobs, SpotChecks(random.Random(0)), 7, seams, daemon.outflow)


def want_gpus(daemon):
    return daemon.jobs.open_job(1_000, OpenJob("work", Policy(), Needs(gpus=1), False), Reader())


def doubt(daemon) -> str:
    return daemon.jobs.owner.executors()[0].doubt


async def test_nobody_is_looked_at_while_no_work_needs_a_gpu(daemon, service):
    service.look()

    assert daemon.executor.leases == []


async def test_a_node_that_shows_its_gpu_is_not_doubted(daemon, service):
    want_gpus(daemon)
    service.look()
    (lease,) = daemon.executor.leases
    assert pickle.loads(daemon.jobs.job(lease.job).functions[lease.functions[0]]) is sight.gpus

    daemon.finish(values.encode([(UUID, 15 * GIB)]))

    assert doubt(daemon) == ""
    service.look()
    assert daemon.executor.leases == [], "not again so soon"


async def test_a_node_that_shows_no_gpu_gets_no_work_that_needs_one_until_it_does(daemon, service):
    job = want_gpus(daemon)
    service.look()

    daemon.finish(values.encode([]))

    assert "saw none" in doubt(daemon)
    daemon.jobs.submit(job, [daemon.jobs.define_function(job, b"f")], [b"p"])
    assert daemon.executor.leases == []
    assert any("saw none" in line for line in daemon.jobs.owner.why(job.job, 0, 0.0))


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xff",
        values.encode("a text"),
        values.encode([("x", -1)]),
        values.encode([("x" * 37, 1)]),
        values.encode([("x", 1)] * 65),
    ],
)
async def test_what_is_no_answer_is_no_verdict(daemon, service, value: bytes):
    want_gpus(daemon)
    service.look()

    daemon.finish(value)

    assert doubt(daemon) == ""


async def test_a_worker_of_another_release_that_raises_is_no_verdict(daemon, service):
    want_gpus(daemon)
    service.look()

    daemon.finish(b"", AttemptStatus.RAISED)

    assert doubt(daemon) == ""


async def test_a_look_that_no_gpu_is_free_for_is_given_up(daemon, service):
    want_gpus(daemon)
    for _ in range(6):
        service.look()

    assert len(daemon.executor.leases) == 1
    assert [job.state for job in daemon.jobs.owner.jobs() if job.name.startswith("look")] == ["cancelled"]
