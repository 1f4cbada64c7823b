"""What programs are promised, kept by real daemons: the submitter lends nothing, so all work crosses the wire."""

import math
import os
import signal
import threading
import time
from concurrent.futures import CancelledError, as_completed
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshd_protocol.limits import UNIT_BYTES_MAX
from meshd_sdk import MeshRefused, RemoteError, Resources, UnitFailed


class OfThisProgram(Exception):
    pass


@dataclass
class Point:
    x: int
    y: int


def where() -> str:
    """The folder that a unit runs in; it names the node."""
    return os.getcwd()


def fail(text: str) -> None:
    raise OfThisProgram(text)


def wait_for(began: str, go: str) -> str:
    Path(began).touch()
    while not Path(go).exists():
        time.sleep(0.005)
    return os.getcwd()


def test_all_work_of_a_node_that_lends_nothing_runs_on_others(standing) -> None:
    with standing[0].mesh() as mesh:
        places = set(mesh.map(lambda _: (time.sleep(0.02), os.getcwd())[1], range(40)))

    assert {Path(place).parts[-4] for place in places} == {"scratch-n1", "scratch-n2"}


def test_a_unit_raises_its_own_type_with_the_remote_traceback(standing) -> None:
    with standing[0].mesh() as mesh:
        error = mesh.submit(fail, "the text").exception(20)

    assert type(error) is OfThisProgram
    assert error.args == ("the text",)
    assert "in fail" in str(error.__cause__)
    assert "test_work_on_a_mesh.py" in str(error.__cause__)


@pytest.mark.parametrize("error", [StopIteration(1), ZeroDivisionError("x"), ValueError()])
def test_whatever_a_unit_raises_ends_that_unit_alone(standing, error) -> None:
    def throw() -> None:
        raise error

    with standing[0].mesh() as mesh:
        raised = mesh.submit(throw).exception(20)

        assert (type(raised), raised.args) == (type(error), error.args)
        assert mesh.submit(pow, 2, 10).result(20) == 1024


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_the_program_arrives_as_an_error_that_names_it(standing, error) -> None:
    def throw() -> None:
        raise error

    with standing[0].mesh() as mesh:
        raised = mesh.submit(throw).exception(20)

        assert isinstance(raised, RemoteError)
        assert type(error).__name__ in f"{raised} {raised.__cause__}"
        assert mesh.submit(pow, 2, 10).result(20) == 1024


@pytest.mark.parametrize("megabytes", [5, 40])
def test_large_arguments_and_results_travel(standing, megabytes) -> None:
    data = os.urandom(1 << 20) * megabytes

    with standing[0].mesh() as mesh:
        assert mesh.submit(lambda given: given[::-1], data).result(30) == data[::-1]


def test_a_result_of_the_largest_size_comes_and_one_byte_more_is_an_error_that_says_what_to_do(standing) -> None:
    with standing[0].mesh() as mesh:
        small = [mesh.submit(pow, 2, exponent) for exponent in range(50)]
        head = 5  # of the codec, for bytes of this size
        largest = mesh.submit(bytes, UNIT_BYTES_MAX - head)
        more = mesh.submit(bytes, UNIT_BYTES_MAX + 1)

        assert [each.result(20) for each in small] == [2**exponent for exponent in range(50)]
        assert len(largest.result(30)) == UNIT_BYTES_MAX - head
        with pytest.raises(Exception, match=rf"{UNIT_BYTES_MAX} may travel: write it to a file"):
            more.result(30)


def test_an_argument_above_the_limit_is_an_error_before_anything_is_sent(standing) -> None:
    with standing[0].mesh() as mesh, pytest.raises(ValueError, match="split them"):
        mesh.submit(len, bytes(UNIT_BYTES_MAX + 1)).result(20)


def test_a_result_that_can_not_travel_says_which_and_what_to_do(standing) -> None:
    with standing[0].mesh() as mesh:
        error = mesh.submit(threading.Lock).exception(20)

    assert type(error).__name__ == "ValueRefused"
    assert "lock" in str(error)


def test_dataclasses_of_the_program_come_back_as_themselves(standing) -> None:
    with standing[0].mesh() as mesh:
        assert mesh.submit(Point, 1, 2).result(20) == Point(1, 2)


def test_closures_lambdas_and_nested_functions_take_along_what_they_use(standing) -> None:
    factor = 7

    def outer(x: int) -> int:
        def inner(y: int) -> float:
            return math.floor(y * factor)

        return inner(x) + 1

    with standing[0].mesh() as mesh:
        assert mesh.submit(outer, 3).result(20) == 22
        assert list(mesh.map(lambda x, y: x * y + factor, range(5), range(5))) == [7, 8, 11, 16, 23]


def test_functions_of_a_script_run_elsewhere(standing) -> None:
    done = standing[0].run_script(
        "from meshd_sdk import Mesh\n"
        "class Shape:\n"
        "    def __init__(self, side): self.side = side\n"
        "def area(shape): return helper(shape.side)\n"
        "def helper(x): return x * x\n"
        "if __name__ == '__main__':\n"
        "    with Mesh() as mesh:\n"
        "        print(sum(mesh.map(area, [Shape(n) for n in range(100)], chunksize=10)))\n"
    )

    assert (done.stdout, done.stderr, done.returncode) == ("328350\n", "", 0)


def test_results_come_in_the_order_of_completion(standing, shared_lab) -> None:
    go = shared_lab.open_folder / "go-order"
    with standing[0].mesh() as mesh:
        slow = mesh.submit(wait_for, str(shared_lab.open_folder / "began-order"), str(go))
        quick = mesh.submit(where)
        first = next(as_completed([slow, quick], 20))
        go.touch()

        assert first is quick
        assert slow.result(20) != quick.result()


def test_many_small_units_are_all_answered(standing) -> None:
    with standing[0].mesh() as mesh:
        futures = [mesh.submit(pow, number, 2) for number in range(3_000)]

        assert [future.result(30) for future in futures] == [number**2 for number in range(3_000)]
        assert list(mesh.map(abs, range(-5_000, 0), chunksize=250)) == list(range(5_000, 0, -1))


@pytest.mark.parametrize("way", ["exits", "is killed", "runs into a fault"])
def test_a_unit_that_ends_its_worker_fails_in_words_and_the_others_are_answered(standing, way) -> None:
    def end() -> None:
        if way == "exits":
            os._exit(7)
        os.kill(os.getpid(), signal.SIGKILL if way == "is killed" else signal.SIGSEGV)

    with standing[0].mesh() as mesh:
        before = [mesh.submit(pow, 2, exponent) for exponent in range(20)]
        bad = mesh.submit(end)
        after = [mesh.submit(pow, 3, exponent) for exponent in range(20)]

        assert [each.result(20) for each in before] == [2**exponent for exponent in range(20)]
        assert [each.result(20) for each in after] == [3**exponent for exponent in range(20)]
        with pytest.raises(UnitFailed, match="failed 3 times") as failure:
            bad.result(20)
    words = {"exits": "exit code 7", "is killed": "SIGKILL", "runs into a fault": "SIGSEGV"}
    assert words[way] in str(failure.value)


def test_a_worker_that_is_killed_costs_only_the_unit_that_it_ran(standing, shared_lab) -> None:
    """The unit runs once more; those queued behind it are not charged."""
    folder = shared_lab.open_folder

    def once(number: int) -> int:
        if number == 10 and not (folder / "killed-once").exists():
            (folder / "killed-once").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.005)
        return number

    with standing[0].mesh() as mesh:
        assert list(mesh.options(retries=1).map(once, range(60))) == list(range(60))


def test_a_unit_that_writes_into_its_own_socket_to_the_daemon_hurts_only_itself(standing) -> None:
    def lie() -> None:
        os.write(3, b"\x00\x00\x00\x10garbage garbage garbage")
        time.sleep(10)

    with standing[0].mesh() as mesh:
        with pytest.raises(UnitFailed, match="broke into the worker's own socket"):
            mesh.options(retries=0).submit(lie).result(20)
        assert mesh.submit(pow, 2, 10).result(20) == 1024


def test_a_unit_that_leaves_a_thread_or_a_child_behind_ends_all_the_same(standing) -> None:
    def leave() -> int:
        if os.fork() == 0:
            time.sleep(30)
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        return 1

    with standing[0].mesh() as mesh:
        assert mesh.submit(leave).result(20) == 1
        assert mesh.submit(pow, 2, 10).result(20) == 1024


def test_a_unit_that_runs_for_too_long_is_ended(standing, until) -> None:
    with standing[0].mesh() as mesh:
        with pytest.raises(UnitFailed, match="time"):
            mesh.options(timeout=0.2, retries=0).submit(time.sleep, 60).result(20)
        assert mesh.submit(pow, 2, 10).result(20) == 1024


def test_cancelled_units_end_at_once_whether_they_run_or_wait(standing, shared_lab, until) -> None:
    folder = shared_lab.open_folder
    with standing[0].mesh() as mesh:
        running = [mesh.submit(wait_for, str(folder / f"began-{number}"), str(folder / "never")) for number in range(2)]
        until(lambda: all((folder / f"began-{number}").exists() for number in range(2)))
        waiting = [mesh.submit(pow, 2, 10) for _ in range(5)]
        for future in [*waiting, *running]:
            assert future.cancel()
        for future in [*waiting, *running]:
            with pytest.raises(CancelledError):
                future.result(20)

        assert mesh.submit(pow, 2, 10).result(20) == 1024


def test_a_program_that_goes_away_frees_the_workers(standing, shared_lab, until) -> None:
    folder = shared_lab.open_folder
    program = (
        "import os, pathlib, time\nfrom meshd_sdk import Mesh\n"
        f"def hang(n):\n    pathlib.Path({str(folder)!r}, f'hangs-{{n}}').touch()\n    time.sleep(60)\n"
        "mesh = Mesh()\nunits = [mesh.submit(hang, n) for n in range(2)]\n"
        f"while not all(pathlib.Path({str(folder)!r}, f'hangs-{{n}}').exists() for n in range(2)):\n"
        "    time.sleep(0.01)\n"
        "os._exit(0)\n"
    )

    assert standing[0].run_script(program).returncode == 0
    with standing[0].mesh() as mesh:
        assert mesh.submit(pow, 2, 10).result(20) == 1024


def test_two_copies_on_distinct_nodes_must_agree(standing, until) -> None:
    with standing[0].mesh() as mesh:
        checked = mesh.options(replicas=2, quorum=2)
        assert checked.submit(pow, 2, 10).result(20) == 1024

        differs = mesh.options(replicas=2, quorum=2).submit(where)
        job = until(lambda: next((job for job in mesh.jobs() if job["waiting"] or job["running"]), None))
        why = until(
            lambda: [line for line in standing[0].why(job["id"], 0) if "copies differ" in line and "one more" in line]
        )
        assert "all have voted: there are 2: " in why[0]
        assert not differs.done()
        differs.cancel()


def test_more_copies_than_nodes_wait_until_a_node_joins(lab, until) -> None:
    first, _ = lab.found(1, 1)
    with first.mesh() as mesh:
        future = mesh.options(replicas=3, quorum=3).submit(pow, 2, 10)
        job = until(lambda: next((job for job in mesh.jobs() if job["waiting"]), None))
        why = first.why(job["id"], 0)
        assert any("its quorum needs 3 distinct voters, and there are 2" in line for line in why), why

        lab.join(lab.node("third"), first).start().until_ready()

        assert future.result(20) == 1024


def test_what_no_node_has_waits_and_says_so(standing, until) -> None:
    with standing[0].mesh() as mesh:
        future = mesh.options(resources=Resources(gpus=60)).submit(pow, 2, 10)
        newest = until(lambda: next((job for job in mesh.jobs() if job["waiting"] == 1), None))
        why = standing[0].cli("job", newest["id"], "--unit", "0")

        assert "gpu" in why.stdout.lower(), why
        future.cancel()


def test_a_job_outlives_its_program_and_is_found_again_by_its_id(standing) -> None:
    submitted = standing[0].run_script(
        "from meshd_sdk import Mesh\n"
        "def square(x): return x * x\n"
        "print(Mesh().job(square, range(50), name='squares').id)\n"
    )
    identifier = submitted.stdout.strip()

    with standing[0].mesh() as mesh:
        job = mesh.attach(identifier)

        assert list(job.results()) == [number**2 for number in range(50)]
        assert job.state == "done"
    with standing[0].mesh() as mesh:
        assert sum(mesh.attach(identifier).results()) == sum(number**2 for number in range(50))


def test_an_id_of_no_job_is_refused_in_words(standing) -> None:
    with standing[0].mesh() as mesh, pytest.raises(MeshRefused, match="no such job"):
        mesh.attach("a" * 32)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
def test_a_job_is_its_users_own(standing, shared_lab, until) -> None:
    """Another user of the machine sees it listed, and can neither read its results nor cancel it."""
    way_in = shared_lab.open_folder / "way-in.sock"
    os.link(standing[0].socket, way_in)  # the node's folder is closed to other users
    with standing[0].mesh() as mesh:
        job = mesh.job(time.sleep, [60], name="mine")
        script = (
            "import os, sys, meshd_protocol.values, cloudpickle, json, meshd_sdk.results\n"
            "from meshd_sdk import Mesh, MeshRefused\n"
            "os.setgroups([]); os.setgid(0); os.setresuid(65534, 65534, 65534)\n"
            f"mesh = Mesh({str(way_in)!r})\n"
            f"assert {job.id!r} in [job['id'] for job in mesh.jobs()]\n"
            "from meshd_protocol.ids import from_text\n"
            "from meshd_protocol.messages.local import CancelJob\n"
            f"for way in (lambda: mesh.attach({job.id!r}), "
            f"lambda: mesh._session.ask(CancelJob(from_text({job.id!r})))):\n"
            "    try:\n        way()\n"
            "    except MeshRefused as refused:\n        print(refused)\n"
        )
        done = standing[0].run_script(script)

        assert done.stdout.splitlines() == ["the job belongs to user 0"] * 2, done
        assert job.progress()["cancelled"] == 0
        job.cancel()
        until(lambda: job.state == "cancelled")
