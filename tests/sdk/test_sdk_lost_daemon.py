"""Whatever becomes of the daemon, the process or the interpreter, no future waits for ever."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

import meshd_sdk
from meshd_protocol.errors import RemoteProtocolError
from meshd_protocol.messages.attempts import UnitStatus
from meshd_protocol.messages.local import (
    Answer,
    Ask,
    ClientHello,
    Denial,
    DenialCode,
    JobOpened,
    OpenJob,
    Outcome,
    SubmitUnits,
    UnitsEnded,
    Welcome,
)
from meshd_sdk import Mesh, MeshClosed, MeshError, MeshLost, MeshRefused, MeshUnavailable


def run_script(script, path, **more):
    paths = [str(Path(meshd_sdk.__file__).parents[1]), *sys.path]
    environment = {**os.environ, "MESHD_SOCKET": str(path), "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script], env=environment, capture_output=True, text=True, check=False,
        timeout=30, **more,
    )  # fmt: skip


def test_without_a_daemon_the_error_says_where_it_looked_and_what_to_do(tmp_path):
    mesh = Mesh(tmp_path / "none.sock")

    with pytest.raises(MeshUnavailable, match=r"none\.sock: start one with `meshd up`"):
        mesh.submit(abs, 1)
    with pytest.raises(MeshUnavailable):
        mesh.status()
    mesh.shutdown()


def test_path_of_a_socket_that_nobody_listens_on_is_an_error(tmp_path):
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))

    with pytest.raises(MeshUnavailable, match="meshd up"):
        Mesh(path).submit(abs, 1)


def test_daemon_that_is_stopped_as_by_ctrl_z_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    """Its socket takes connections: `meshd status` said nothing and did not end."""
    monkeypatch.setattr(meshd_sdk.session, "_ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute.sock"))
        mute.listen()
        mesh = Mesh(tmp_path / "mute.sock")

        with pytest.raises(MeshUnavailable, match="did not answer within"):
            mesh.status()
        mesh.shutdown()  # returns


def test_path_that_is_too_long_for_a_socket_is_an_error(tmp_path):
    with pytest.raises(MeshUnavailable, match="too long"):
        Mesh(tmp_path / ("x" * 120)).submit(abs, 1)


def test_daemon_that_goes_away_ends_every_future_with_an_error(mesh, daemon):
    daemon.gate.clear()
    futures = [mesh.submit(abs, number) for number in range(500)]
    daemon.first().drop()

    for future in futures:
        error = future.exception(5)
        assert isinstance(error, MeshLost)
        assert isinstance(error, BrokenExecutor)
        assert str(daemon.path) in str(error)
    assert len({id(future.exception()) for future in futures}) == 500, "raising writes to an exception: one each"


def test_mesh_connects_anew_after_its_daemon_went_away(mesh, daemon):
    assert mesh.submit(abs, -1).result(5) == 1
    daemon.gate.clear()
    lost = mesh.submit(abs, -2)
    daemon.first().drop()
    assert isinstance(lost.exception(5), MeshLost)
    daemon.gate.set()

    assert mesh.submit(abs, -3).result(5) == 3
    assert mesh.status() == {"state": "ready"}


def test_shutdown_after_the_daemon_went_away_returns(mesh, daemon):
    daemon.gate.clear()
    future = mesh.submit(abs, -2)
    daemon.first().drop()
    mesh.shutdown()

    assert isinstance(future.exception(0), MeshError)


def test_question_is_not_waited_for_longer_than_the_daemon_lives(mesh, daemon):
    daemon.on[Ask] = lambda to, message, stream: to.drop()

    with pytest.raises(MeshLost):
        mesh.peers()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 64,
        b"\x00\x00\x00\x05\x7f\x00\x00\x00\x01",
        b"\x00\x00\x00\x06\x46\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x01",
    ],
)
def test_daemon_that_sends_garbage_is_hung_up_on_with_an_error(mesh, daemon, garbage):
    daemon.on[SubmitUnits] = lambda to, message, stream: to.tell_bytes(garbage)

    with pytest.raises(MeshLost, match="does not speak this protocol"):
        mesh.submit(abs, 1).result(5)


@pytest.mark.parametrize(
    ("message", "stream"),
    [
        (UnitsEnded([Outcome(5, UnitStatus.RETURNED, b"\x01")]), 1),
        (UnitsEnded([Outcome(0, UnitStatus.RETURNED, b"\x01")]), 99),
        (UnitsEnded([Outcome(0, UnitStatus.RETURNED, b"\x01")]), 0),
        (JobOpened(b"j" * 20), 1),
        (Answer(b"{}"), 1),
        (Ask(1), 1),
    ],
)
def test_message_that_makes_no_sense_ends_the_link(mesh, daemon, message, stream):
    daemon.on[SubmitUnits] = lambda to, _, __: to.tell(message, stream)

    with pytest.raises(MeshLost, match="does not speak this protocol"):
        mesh.submit(abs, 1).result(5)


def test_second_end_of_a_unit_changes_nothing(mesh, daemon):
    ends = UnitsEnded([Outcome(0, UnitStatus.RETURNED, b"\x01"), Outcome(0, UnitStatus.RETURNED, b"\x02")])
    daemon.on[SubmitUnits] = lambda to, message, stream: to.tell(ends, stream)

    assert mesh.submit(abs, 1).result(5) == 1
    assert mesh.status() == {"state": "ready"}


def test_answer_that_is_not_json_is_an_error(mesh, daemon):
    daemon.on[Ask] = lambda to, message, stream: to.tell(Answer(b"{"), stream)

    with pytest.raises(MeshLost, match="not JSON"):
        mesh.status()


def test_daemon_of_another_version_refuses_with_its_reason(mesh, daemon):
    def refuse(to, message, stream):
        to.tell(Denial(DenialCode.VERSION, "this daemon speaks version 9"))
        to.drop()

    daemon.on[ClientHello] = refuse
    daemon.on[OpenJob] = lambda to, message, stream: None

    with pytest.raises(MeshRefused, match="speaks version 9") as refused:
        mesh.submit(abs, 1).result(5)
    assert refused.value.code is DenialCode.VERSION


def test_refused_job_ends_its_futures_with_the_reason_and_nothing_else(mesh, daemon):
    daemon.on[OpenJob] = lambda to, message, stream: to.tell(Denial(DenialCode.DRAINING, "draining"), stream)

    for _ in range(3):
        with pytest.raises(MeshRefused, match="draining"):
            mesh.submit(abs, 1).result(5)
    assert mesh.status() == {"state": "ready"}


def test_units_that_were_still_queued_when_their_job_was_refused_end_too(mesh, daemon):
    """They are in no frame yet when the refusal arrives, so nobody would answer them."""
    daemon.on[OpenJob] = lambda to, message, stream: to.tell(Denial(DenialCode.DRAINING, "draining"), stream)
    futures = [mesh.submit(abs, number) for number in range(5_000)]

    assert {type(future.exception(10)) for future in futures} == {MeshRefused}


def test_late_outcomes_of_a_closed_job_are_of_no_interest(daemon):
    mesh = Mesh(daemon.path)
    future = mesh.submit(abs, -1)
    assert future.result(5) == 1
    view = mesh.options(name="other")
    view.submit(abs, 1).cancel()
    view.shutdown()

    assert mesh.submit(abs, -2).result(5) == 2
    mesh.shutdown()


def test_welcome_twice_is_harmless(mesh, daemon):
    daemon.on[SubmitUnits] = lambda to, message, stream: (
        to.tell(Welcome(1, b"n" * 20, b"m" * 20, "again", "0")),
        to.tell(UnitsEnded([Outcome(0, UnitStatus.RETURNED, b"\x01")]), stream),
    )

    assert mesh.submit(abs, 1).result(5) == 1


# --- forks, Ctrl-C and the end of the interpreter ---------------------------------------------------------------------


def test_fork_ends_the_parents_futures_and_connects_by_itself(daemon):
    script = """
import os, sys
from meshd_sdk import Mesh, MeshClosed
mesh = Mesh()
assert mesh.submit(abs, -1).result() == 1
gate = mesh.submit(pow, 2, 8)
pid = os.fork()
if pid == 0:
    error = gate.exception(5) if not gate.done() else None
    assert error is None or isinstance(error, MeshClosed), error
    assert mesh.submit(abs, -7).result(5) == 7
    mesh.shutdown()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert gate.result(5) == 256
mesh.shutdown()
print("fine")
"""
    done = run_script(script, daemon.path)

    assert (done.stdout, done.stderr) == ("fine\n", "")
    daemon.read_all()
    assert not [error for error in daemon.errors if isinstance(error, RemoteProtocolError)]


def test_interpreter_waits_for_pending_units_as_it_does_for_other_executors(daemon):
    script = """
from meshd_sdk import Mesh
for number in range(100):
    Mesh().submit(abs, -number) if number % 50 == 0 else None
Mesh().submit(abs, -9).add_done_callback(lambda done: print(done.result()))
"""
    done = run_script(script, daemon.path)

    assert (done.stdout, done.stderr, done.returncode) == ("9\n", "", 0)


def test_interpreter_ends_though_the_daemon_died_with_units_pending(daemon):
    daemon.on[SubmitUnits] = lambda to, message, stream: to.drop()
    script = """
from meshd_sdk import Mesh
Mesh().submit(abs, -9).add_done_callback(lambda done: print(type(done.exception()).__name__))
"""
    done = run_script(script, daemon.path)

    assert (done.stdout, done.stderr, done.returncode) == ("MeshLost\n", "", 0)


def test_nothing_can_be_submitted_when_the_interpreter_ends(daemon):
    script = """
import atexit
@atexit.register
def late():
    try:
        Mesh().submit(abs, 1)
    except RuntimeError as error:
        print(error)
from meshd_sdk import Mesh
"""
    done = run_script(script, daemon.path)

    assert (done.stdout, done.stderr) == ("cannot schedule new futures after interpreter shutdown\n", "")


def test_ctrl_c_among_submits_loses_nothing_that_was_submitted(mesh, monkeypatch):
    """The main thread sends by itself, and an interrupt may come between any two of its steps."""
    monkeypatch.setattr("meshd_sdk.link._INLINE_IN_FLIGHT", 1 << 20)
    futures = [(0, mesh.submit(abs, 0))]
    interrupts, armed = 0, False

    def interrupt(_, frame):
        nonlocal interrupts, armed
        if armed and "meshd_sdk" in frame.f_code.co_filename:  # in others' callbacks Python would print and drop it
            armed, interrupts = False, interrupts + 1
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    try:
        while interrupts < 100:
            try:
                armed = True
                for number in range(200):
                    futures.append((number, mesh.submit(abs, -number)))
                armed = False
            except KeyboardInterrupt:
                continue
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)

    for number, future in futures:
        assert future.result(20) == number


def test_future_made_in_a_parent_says_so_in_the_child(mesh, daemon):
    daemon.gate.clear()
    future = mesh.submit(abs, -1)
    future.add_done_callback(lambda _: os._exit(9))
    pid = os.fork()
    if pid == 0:
        os._exit(0 if isinstance(future.exception(5), MeshClosed) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    # The parent's is as it was.
    assert not future.done()
    future._done_callbacks.clear()
    daemon.gate.set()
    assert future.result(5) == 1
