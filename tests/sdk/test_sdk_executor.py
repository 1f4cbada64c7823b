"""What `concurrent.futures` promises, kept by `Mesh`."""

import asyncio
import concurrent.futures
import gc
import threading
import traceback
import weakref
from concurrent.futures import CancelledError

import pytest

from meshd_protocol.limits import JOB_FUNCTIONS_MAX
from meshd_protocol.messages.attempts import UnitStatus
from meshd_protocol.messages.local import (
    Answer,
    CancelJob,
    CancelUnits,
    CloseJob,
    DefineFunction,
    JobEnded,
    OpenJob,
    Outcome,
    SubmitUnits,
    UnitsEnded,
)
from meshd_sdk import Mesh, MeshClosed, RemoteError, RemoteTraceback, UnitFailed
from meshd_sdk import link as link_module
from meshd_sdk import stream as stream_module


class OwnError(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code


def raise_own_error():
    raise OwnError(7, "seven")


def open_gate_then_close(to, message, stream):
    """Units begin only when the program has begun to wait for them."""
    to.daemon.gate.set()
    to.daemon._on_CloseJob(to, message, stream)


def add(first, second=10):
    return first + second


def test_unit_gets_positional_and_keyword_arguments(mesh):
    assert mesh.submit(add, 1, second=2).result(5) == 3


def test_exception_of_a_unit_has_its_own_type_and_the_remote_traceback_as_cause(mesh):
    error = mesh.submit(raise_own_error).exception(5)

    assert type(error) is OwnError
    assert error.args == (7, "seven")
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "raise_own_error" in "".join(traceback.format_exception(error))


def test_exception_of_a_type_that_this_process_does_not_know_says_its_name(mesh):
    def raise_unknown():
        class Unknown(Exception):
            pass

        raise Unknown("what it said")

    error = mesh.submit(raise_unknown).exception(5)

    assert isinstance(error, RemoteError)
    assert "Unknown" in str(error)
    assert "what it said" in str(error)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_unit_can_not_end_the_program_that_waits_for_its_result(mesh, kind):
    def leave():
        raise kind(0)

    with pytest.raises(RemoteError) as caught:
        mesh.submit(leave).result(5)

    assert caught.value.type_name.endswith(kind.__qualname__)
    assert caught.value.text == "0"


def test_map_gives_results_in_order_whatever_the_chunks(mesh):
    squares = [number * number for number in range(100)]
    for chunksize in (1, 7, 100, 1_000, None):
        assert list(mesh.map(pow, range(100), [2] * 100, chunksize=chunksize, timeout=10)) == squares


def test_map_of_nothing_is_empty(mesh):
    assert list(mesh.map(abs, [], chunksize=5)) == []
    assert list(mesh.map(abs, [], chunksize=None)) == []


def test_map_in_chunks_sends_one_unit_for_each_chunk(mesh, daemon):
    assert list(mesh.map(abs, range(10), chunksize=4)) == list(range(10))

    assert sum(len(message.units) for message in daemon.of_kind(SubmitUnits)) == 3


def test_map_refuses_a_chunksize_below_one(mesh):
    with pytest.raises(ValueError, match="chunksize must be 1 or more"):
        mesh.map(abs, [1], chunksize=0)


def test_map_times_out_and_cancels_what_is_left(mesh, daemon):
    daemon.gate.clear()
    results = mesh.map(abs, range(10), chunksize=2, timeout=0)

    with pytest.raises(TimeoutError):
        next(results)
    mesh.shutdown()
    daemon.read_all()
    sent = sum(len(message.units) for message in daemon.of_kind(SubmitUnits))
    cancelled = [index for message in daemon.of_kind(CancelUnits) for index in message.indices]
    assert sorted(cancelled) == list(range(sent))


def test_map_raises_at_the_call_that_raised(mesh):
    results = mesh.map(divmod, [1, 1, 1], [2, 0, 5])

    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_chunk_with_too_few_results_is_a_failure_not_a_shift(mesh, daemon):
    """A wrong answer must not move the others' results to other inputs."""
    daemon.on[SubmitUnits] = lambda to, message, stream: to.tell(
        UnitsEnded([Outcome(0, UnitStatus.RETURNED, b"\x91\x01")]), stream
    )

    with pytest.raises(UnitFailed, match="a chunk of 3 calls"):
        list(mesh.map(abs, range(3), chunksize=3))


def test_map_lets_go_of_results_as_they_are_taken(mesh):
    for made in mesh.map(OwnError, range(6), range(6), chunksize=3):
        reference = weakref.ref(made)
        del made
        gc.collect()
        assert reference() is None


def test_futures_work_with_wait_and_as_completed(mesh, daemon):
    daemon.gate.clear()
    futures = [mesh.submit(abs, -number) for number in range(20)]
    assert concurrent.futures.wait(futures, timeout=0).not_done == set(futures)
    daemon.gate.set()

    assert sorted(future.result() for future in concurrent.futures.as_completed(futures, timeout=10)) == list(range(20))
    assert concurrent.futures.wait(futures).not_done == set()
    # Again, with futures that were done before anybody waited.
    assert len(list(concurrent.futures.as_completed(futures, timeout=10))) == 20


def test_waiting_for_the_same_futures_from_many_threads_blocks_nobody(mesh):
    futures = [mesh.submit(abs, number) for number in range(300)]
    done = []
    threads = [
        threading.Thread(target=lambda part=part: done.append(concurrent.futures.wait(part, timeout=30).not_done))
        for part in (futures, futures[::-1], futures[::2], futures[100:])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert done == [set()] * 4


def test_callback_runs_once_with_the_future(mesh, daemon):
    daemon.gate.clear()
    called: list[object] = []
    future = mesh.submit(abs, -1)
    future.add_done_callback(called.append)
    daemon.gate.set()
    mesh.shutdown()
    future.add_done_callback(called.append)

    assert called == [future, future]


def test_callback_may_submit_more(mesh):
    second: concurrent.futures.Future[int] = concurrent.futures.Future()

    def submit_another(first):
        mesh.submit(add, first.result()).add_done_callback(lambda done: second.set_result(done.result()))

    mesh.submit(add, 1).add_done_callback(submit_another)

    assert second.result(5) == 21


def test_cancelled_future_is_cancelled_at_once_and_the_daemon_is_told(mesh, daemon):
    daemon.gate.clear()
    futures = [mesh.submit(abs, number) for number in range(10)]

    assert all(future.cancel() for future in futures[5:])
    assert all(future.cancel() for future in futures[5:]), "cancelling again changes nothing"
    assert concurrent.futures.wait(futures[5:], timeout=5).not_done == set()
    with pytest.raises(CancelledError):
        futures[5].result()
    daemon.gate.set()
    mesh.shutdown()
    daemon.read_all()
    told = [index for message in daemon.of_kind(CancelUnits) for index in message.indices]
    assert set(told) <= set(range(5, 10))
    assert [future.result() for future in futures[:5]] == list(range(5))


def test_executor_that_is_cancelled_cancels_its_jobs_and_not_only_their_units(mesh, daemon):
    """A job whose units were all cancelled one by one counts as done."""
    daemon.gate.clear()
    opened = 1  # the stream of the first job
    daemon.on[CancelJob] = lambda to, message, stream: (
        to.tell(JobEnded("cancelled", ""), opened),
        to.tell(Answer(b"{}"), stream),
    )
    cancelled, other = mesh.options(name="cancelled"), mesh.options(name="other")
    unwanted, wanted = cancelled.submit(abs, -1), other.submit(abs, -2)

    cancelled.cancel()

    with pytest.raises(CancelledError):
        unwanted.result(5)
    daemon.gate.set()
    assert wanted.result(5) == 2
    assert [message.job for message in daemon.of_kind(CancelJob)] == [daemon.jobs[0].id]


def test_future_that_is_done_can_not_be_cancelled(mesh):
    future = mesh.submit(abs, -1)

    assert future.result(5) == 1
    assert not future.cancel()
    assert not future.cancelled()


def test_units_that_somebody_else_cancelled_are_cancelled_here(mesh, daemon):
    daemon.on[SubmitUnits] = lambda to, message, stream: to.tell(
        UnitsEnded([Outcome(0, UnitStatus.CANCELLED, b"")]), stream
    )

    with pytest.raises(CancelledError):
        mesh.submit(abs, 1).result(5)


def test_job_that_was_cancelled_elsewhere_cancels_what_is_left_and_the_next_submit_opens_another(mesh, daemon):
    daemon.on[SubmitUnits] = lambda to, message, stream: to.tell(JobEnded("cancelled", ""), stream)
    with pytest.raises(CancelledError):
        mesh.submit(abs, 1).result(5)
    del daemon.on[SubmitUnits]

    assert mesh.submit(abs, -1).result(5) == 1
    assert len(daemon.of_kind(OpenJob)) == 2


def test_unit_without_a_result_says_what_was_tried(mesh, daemon):
    daemon.on[SubmitUnits] = lambda to, message, stream: to.tell(
        UnitsEnded([Outcome(0, UnitStatus.FAILED, b"", "the worker died three times")]), stream
    )

    with pytest.raises(UnitFailed, match="unit 0: the worker died three times"):
        mesh.submit(abs, 1).result(5)


def test_unit_that_took_too_long_is_a_time_out(mesh, daemon):
    daemon.on[SubmitUnits] = lambda to, message, stream: to.tell(
        UnitsEnded([Outcome(0, UnitStatus.TIMED_OUT, b"", "it ran for longer than its 1 s")]), stream
    )

    with pytest.raises(TimeoutError, match="it ran for longer than its 1 s"):
        mesh.submit(abs, 1).result(5)


@pytest.mark.parametrize(("status", "value"), [(UnitStatus.RETURNED, b"\xc1"), (UnitStatus.RAISED, b"\xc0")])
def test_result_that_is_not_a_value_is_that_units_failure_alone(mesh, daemon, status, value):
    daemon.on[SubmitUnits] = lambda to, message, stream: to.tell(UnitsEnded([Outcome(0, status, value)]), stream)
    with pytest.raises(UnitFailed, match="can not be read"):
        mesh.submit(abs, 1).result(5)
    daemon.on[SubmitUnits] = lambda to, message, stream: to.tell(
        UnitsEnded([Outcome(1, UnitStatus.RETURNED, b"\x07")]), stream
    )

    assert mesh.submit(abs, 7).result(5) == 7


def test_what_can_not_be_pickled_is_the_futures_exception(mesh):
    with pytest.raises(TypeError, match="pickle"):
        mesh.submit(abs, threading.Lock()).result(0)
    with pytest.raises(TypeError, match="can not be called"):
        mesh.submit(3).result(0)


def test_argument_that_is_too_large_is_refused_before_it_is_sent(mesh, monkeypatch):
    monkeypatch.setattr("meshd_sdk.payloads.UNIT_BYTES_MAX", 1_000)

    with pytest.raises(ValueError, match="1,000 are allowed: split them"):
        mesh.submit(len, b"x" * 1_000).result(0)


def test_submit_blocks_while_too_many_bytes_wait_and_goes_on_when_results_come(mesh, daemon, monkeypatch):
    """Else a long map would fill this process and exceed what the daemon takes of one user."""
    monkeypatch.setattr(link_module, "_WAITING_BYTES_MAX", 10_000)
    daemon.gate.clear()
    lengths: list[int] = []
    submitted = threading.Event()

    def submit_many():
        futures = [mesh.submit(len, b"x" * 1_000) for _ in range(50)]
        submitted.set()
        lengths.extend(future.result() for future in futures)

    thread = threading.Thread(target=submit_many)
    thread.start()
    try:
        assert not submitted.wait(0.1)
    finally:
        daemon.gate.set()
        thread.join()
    assert lengths == [1_000] * 50


def test_nothing_can_be_submitted_after_shutdown(mesh):
    view = mesh.options(replicas=2)
    assert view.submit(abs, -1).result(5) == 1
    mesh.shutdown()

    for closed in (mesh, view):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            closed.submit(abs, 1)
    with pytest.raises(MeshClosed):
        mesh.status()
    mesh.shutdown()


def test_shutdown_waits_for_every_unit_of_every_view(daemon):
    with Mesh(daemon.path) as mesh:
        daemon.gate.clear()
        daemon.on[CloseJob] = open_gate_then_close
        futures = [each.submit(abs, -2) for each in (mesh, mesh.options(name="one"), mesh.options(retries=0))]

    assert [future.result(0) for future in futures] == [2, 2, 2]
    daemon.read_all()
    assert len(daemon.of_kind(CloseJob)) == 3


def test_shutdown_of_a_view_leaves_the_others_open(mesh):
    view = mesh.options(replicas=2)
    future = view.submit(abs, -1)
    view.shutdown()

    assert future.result(0) == 1
    with pytest.raises(RuntimeError):
        view.submit(abs, 1)
    assert mesh.submit(abs, -3).result(5) == 3


def test_shutdown_with_cancel_futures_cancels_what_has_not_ended(mesh, daemon):
    ended = mesh.submit(abs, -1)
    assert ended.result(5) == 1
    daemon.gate.clear()
    daemon.on[CloseJob] = open_gate_then_close
    futures = [mesh.submit(abs, number) for number in range(50)]
    mesh.shutdown(cancel_futures=True)

    assert all(future.cancelled() for future in futures)
    assert ended.result() == 1


def test_shutdown_without_waiting_still_ends_the_futures(mesh, daemon):
    daemon.gate.clear()
    future = mesh.submit(abs, -4)
    mesh.shutdown(wait=False)
    daemon.gate.set()

    assert future.result(5) == 4


def test_forgotten_mesh_ends_its_futures_and_its_thread(daemon):
    daemon.gate.clear()
    future = Mesh(daemon.path).submit(abs, -5)
    gc.collect()
    daemon.gate.set()

    assert future.result(5) == 5
    assert daemon.first().ended.wait(5)


def test_many_threads_may_submit_at_once(mesh, daemon):
    sums: list[int] = []

    def submit_many(base):
        futures = [mesh.submit(add, base, number) for number in range(200)]
        sums.append(sum(future.result(20) for future in futures) - 200 * base)

    threads = [threading.Thread(target=submit_many, args=(base,)) for base in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sums == [sum(range(200))] * 5
    assert len(daemon.of_kind(DefineFunction)) == 1


def test_job_that_is_full_of_functions_is_followed_by_another(mesh, daemon, monkeypatch):
    assert JOB_FUNCTIONS_MAX > 3
    monkeypatch.setattr(stream_module, "JOB_FUNCTIONS_MAX", 3)

    assert [mesh.submit(lambda number=number: number).result(5) for number in range(8)] == list(range(8))
    assert len(daemon.of_kind(OpenJob)) == 3


def test_job_that_is_full_of_units_is_followed_by_another(mesh, daemon, monkeypatch):
    monkeypatch.setattr(stream_module, "JOB_UNITS_MAX", 3)

    assert [mesh.submit(abs, number).result(5) for number in range(8)] == list(range(8))
    assert len(daemon.of_kind(OpenJob)) == 3


def test_large_arguments_arrive_whole_and_in_order(mesh):
    sizes = [3_000_000, 10, 1_500_000, 0, 2_000_000, 70_000]

    assert list(mesh.map(len, [b"x" * size for size in sizes], timeout=20)) == sizes


def test_future_has_all_fields_that_the_standard_library_gives_its_own(mesh):
    """A Python that adds one would break futures that are made without it."""
    future = mesh.submit(abs, 1)

    assert all(hasattr(future, field) for field in vars(concurrent.futures.Future()))
