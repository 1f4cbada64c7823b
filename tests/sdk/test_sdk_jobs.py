"""Jobs with an id: they outlive the program, and are found again."""

import threading

import pytest

from meshd_protocol.errors import MalformedId
from meshd_protocol.messages.attempts import UnitStatus
from meshd_protocol.messages.local import AttachJob, JobEnded, JobOpened, OpenJob, Outcome, UnitsEnded
from meshd_sdk import Mesh, MeshClosed, MeshRefused, UnitFailed


def invert(number):
    return 1 / number


def test_job_gives_results_in_order_and_as_they_come(mesh, daemon):
    job = mesh.job(abs, range(-20, 0), name="absolute")

    assert list(job.results()) == list(range(20, 0, -1))
    assert {index: future.result() for index, future in job.as_completed()} == dict(enumerate(range(20, 0, -1)))
    assert list(job.results()) == list(range(20, 0, -1)), "results may be read again"
    (opening,) = daemon.of_kind(OpenJob)
    assert (opening.name, opening.detached) == ("absolute", True)


def test_job_tells_its_id_its_state_and_why(mesh):
    job = mesh.job(abs, [-1, -2])
    list(job.results())
    while job.progress()["state"] != "done":
        list(job.as_completed())

    assert job.state == "done"
    assert job.progress()["units"] == 2
    assert job.why(1)["why"] == "unit 1"
    assert job.id in repr(job)
    with pytest.raises(ValueError, match="0 or more"):
        job.why(-1)


def test_unit_that_raised_ends_results_but_not_as_completed(mesh):
    job = mesh.job(invert, [1, 0, 4])

    with pytest.raises(ZeroDivisionError):
        list(job.results())
    assert sorted((index, type(future.exception())) for index, future in job.as_completed()) == [
        (0, type(None)), (1, ZeroDivisionError), (2, type(None)),
    ]  # fmt: skip


def test_job_of_nothing_ends(mesh):
    assert list(mesh.job(abs, []).results()) == []


def test_cancelled_job_cancels_its_units(mesh, daemon):
    daemon.gate.clear()
    job = mesh.job(abs, range(100))
    job.cancel()
    daemon.gate.set()

    assert any(future.cancelled() for _, future in job.as_completed())


def test_input_that_can_not_be_pickled_is_raised_and_leaves_no_job_running(mesh, daemon):
    with pytest.raises(TypeError, match="pickle"):
        mesh.job(abs, [1, threading.Lock()])
    mesh.shutdown()
    daemon.read_all()

    assert all(job.closed for job in daemon.jobs)


def test_program_need_not_wait_for_its_job(daemon):
    daemon.gate.clear()
    with Mesh(daemon.path) as mesh:
        job = mesh.job(abs, range(5))
        identifier = job.id

    with pytest.raises(MeshClosed, match=identifier):
        list(job.results())
    daemon.read_all()
    assert daemon.jobs[0].closed
    daemon.gate.set()


def test_job_is_found_again_by_another_program(daemon):
    with Mesh(daemon.path) as mesh:
        identifier = mesh.job(abs, [-3, -2, -1]).id
    daemon.read_all()

    with Mesh(daemon.path) as mesh:
        again = mesh.attach(identifier)
        assert list(again.results()) == [3, 2, 1]
        assert [index for index, _ in again.as_completed()] != []
        assert again.id == identifier


def test_attaching_to_a_job_that_this_program_follows_already_is_the_same_job(mesh, daemon):
    """The daemon tells a job's outcomes to one listener."""
    daemon.gate.clear()
    job = mesh.job(abs, [-3, -2])
    again = mesh.attach(job.id)
    daemon.gate.set()

    assert list(again.results()) == list(job.results()) == [3, 2]
    assert daemon.of_kind(AttachJob) == []


def test_units_that_were_submitted_while_attaching_are_found_too(mesh, daemon):
    """The count was asked for before the job had all its units."""
    job = mesh.job(abs, [-1])
    assert list(job.results()) == [1]
    (ended,) = [stream for message, stream in daemon.received if isinstance(message, OpenJob)]
    daemon.first().tell(JobEnded("done", ""), ended)

    def tell_more(to, message, stream):
        to.tell(JobOpened(message.job), stream)
        to.tell(UnitsEnded([Outcome(index, UnitStatus.RETURNED, bytes([index])) for index in (2, 0)]), stream)
        to.tell(UnitsEnded([Outcome(1, UnitStatus.RETURNED, b"\x01")]), stream)
        to.tell(JobEnded("done", ""), stream)

    daemon.on[AttachJob] = tell_more
    with Mesh(daemon.path) as other:
        again = other.attach(job.id)
        assert list(again.results()) == [0, 1, 2]
        assert sorted(index for index, _ in again.as_completed()) == [0, 1, 2]


def test_unit_that_a_job_ended_without_is_a_failure(daemon):
    with Mesh(daemon.path) as mesh:
        identifier = mesh.job(abs, [-1, -2]).id
    daemon.read_all()

    def tell_less(to, message, stream):
        to.tell(JobOpened(message.job), stream)
        to.tell(UnitsEnded([Outcome(1, UnitStatus.RETURNED, b"\x02")]), stream)
        to.tell(JobEnded("failed", "its results were dropped"), stream)

    daemon.on[AttachJob] = tell_less
    with Mesh(daemon.path) as mesh:
        job = mesh.attach(identifier)
        with pytest.raises(UnitFailed, match="its results were dropped"):
            list(job.results())
        assert dict(job.as_completed())[1].result() == 2
        assert job.state == "failed"


def test_job_that_does_not_exist_can_not_be_attached(mesh):
    with pytest.raises(MeshRefused, match="no such job"):
        mesh.attach("a" * 32)
    with pytest.raises(MalformedId):
        mesh.attach("not an id")


def test_listings_are_what_the_daemon_says(mesh):
    job = mesh.job(abs, [-1])

    assert mesh.status() == {"state": "ready"}
    assert mesh.peers() == [{"name": "fake"}]
    assert [each["id"] for each in mesh.jobs()] == [job.id]
