"""Daemons that are killed, stopped and started again while they work."""

import os
import signal
import time
from pathlib import Path

import pytest

from meshd_sdk import MeshLost, MeshRefused


def wait_for(began: str, go: str) -> str:
    """Return the folder that the unit runs in, which names its node, once `go` exists."""
    if not Path(began).exists():  # in a second attempt it is another user's
        Path(began).touch()
    while not Path(go).exists():
        time.sleep(0.005)
    return os.getcwd()


def place(seconds: float) -> str:
    time.sleep(seconds)
    return os.getcwd()


def test_units_of_a_node_that_is_killed_run_elsewhere(lab, until) -> None:
    submitter, victim, other = lab.found(0, 1, 1)
    with submitter.mesh() as mesh:
        futures = [mesh.submit(place, 0.05) for _ in range(40)]
        until(lambda: sum(future.done() for future in futures) >= 5)
        victim.kill()

        places = [future.result(20) for future in futures]

    assert any(other.name in each for each in places)
    until(lambda: not victim.left_over())


def test_a_node_that_comes_back_works_again(lab, until) -> None:
    submitter, worker = lab.found(0, 1)
    with submitter.mesh() as mesh:
        assert mesh.submit(pow, 2, 10).result(20) == 1024
        worker.kill()
        waiting = mesh.submit(pow, 2, 11)
        worker.start().until_ready()

        assert waiting.result(20) == 2048
    until(lambda: submitter.sees("alive") == 2)
    assert [peer["record"][0] for peer in submitter.peers() if not peer["self"]] == [2]


def test_when_its_own_daemon_is_killed_a_program_learns_it_at_once(lab) -> None:
    (node,) = lab.found(1)
    with node.mesh() as mesh:
        futures = [mesh.submit(time.sleep, 60) for _ in range(3)]
        job = mesh.job(time.sleep, [60])
        assert job.id
        node.kill()

        for future in futures:
            assert isinstance(future.exception(5), MeshLost)
        with pytest.raises(MeshLost):
            list(job.results())


def test_units_of_an_owner_that_is_killed_are_given_up_by_whoever_runs_them(lab, until, lives) -> None:
    owner, worker = lab.found(0, 1)
    with owner.mesh() as mesh:
        mesh.submit(wait_for, str(lab.open_folder / "began"), str(lab.open_folder / "never"))
        until((lab.open_folder / "began").exists)
        (busy,) = worker.workers()
        owner.kill()

        until(lambda: not lives(busy))
    with worker.mesh() as mesh:
        assert mesh.submit(pow, 2, 10).result(20) == 1024


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_told_to_stop_finishes_what_runs_and_hands_back_what_waits(lab, until, asked) -> None:
    submitter, leaver, stayer = lab.found(0, 1, 1)
    folder = lab.open_folder
    with submitter.mesh() as mesh:
        running = [mesh.submit(wait_for, str(folder / f"began-{number}"), str(folder / "go")) for number in range(2)]
        until(lambda: all((folder / f"began-{number}").exists() for number in range(2)))
        waiting = [mesh.submit(place, 0.0) for _ in range(20)]
        leaver.processes()
        if asked is signal.SIGINT:
            os.killpg(leaver.pid, asked)  # Ctrl-C in a terminal reaches the warden, too
        else:
            leaver.signal(asked)
        until(lambda: leaver.status()["state"] == "draining")
        with leaver.mesh() as local, pytest.raises(MeshRefused, match="draining"):
            local.submit(pow, 2, 10).result(20)
        (folder / "go").touch()

        assert {Path(future.result(20)).parts[-4] for future in running} == {"scratch-n1", "scratch-n2"}
        assert {Path(future.result(20)).parts[-4] for future in waiting} == {"scratch-n2"}
    assert leaver.ended() == 0
    assert not leaver.socket.exists()
    assert not list(leaver.scratch.iterdir())
    until(lambda: not leaver.left_over())
    until(lambda: stayer.sees("left") == 1)


def test_a_drain_ends_what_runs_for_longer_than_its_bound(lab, until) -> None:
    submitter, leaver, stayer = lab.found(0, 1, 0, MESHD_DRAIN_S="0.5")
    folder = lab.open_folder
    with submitter.mesh() as mesh:
        future = mesh.submit(wait_for, str(folder / "began"), str(folder / "go"))
        until((folder / "began").exists)
        assert leaver.stop() == 0
        assert not list(leaver.scratch.iterdir())
        (folder / "go").touch()
        leaver.start().until_ready()

        assert future.result(20)
    assert stayer.process.poll() is None


def test_a_second_signal_ends_a_drain_at_once(lab, until) -> None:
    (node,) = lab.found(1)
    with node.mesh() as mesh:
        future = mesh.submit(wait_for, str(lab.open_folder / "began"), str(lab.open_folder / "never"))
        until((lab.open_folder / "began").exists)
        node.signal(signal.SIGTERM)
        until(lambda: node.status()["state"] == "draining")
        began = time.monotonic()
        node.signal(signal.SIGTERM).ended()

        assert time.monotonic() - began < 5, "the drain may take 10 s"
        assert isinstance(future.exception(5), MeshLost)
    assert not node.socket.exists()
    assert not list(node.scratch.iterdir())
    until(lambda: not node.left_over())


def test_a_killed_daemon_leaves_no_worker_and_starts_again_over_its_socket(lab, until) -> None:
    (node,) = lab.found(2)
    with node.mesh() as mesh:
        for number in range(2):
            mesh.submit(wait_for, str(lab.open_folder / f"began-{number}"), str(lab.open_folder / "never"))
        until(lambda: all((lab.open_folder / f"began-{number}").exists() for number in range(2)))
        assert len(node.workers()) == 2
        node.kill()
    until(lambda: not node.left_over())
    assert node.socket.exists()

    node.start().until_ready()
    with node.mesh() as mesh:
        assert mesh.submit(pow, 2, 10).result(20) == 1024


@pytest.mark.parametrize("victim", ["warden", "zygote"])
def test_what_makes_workers_is_replaced_when_it_is_killed_and_its_units_run_again(lab, until, lives, victim) -> None:
    (node,) = lab.found(1)
    with node.mesh() as mesh:
        future = mesh.submit(wait_for, str(lab.open_folder / "began"), str(lab.open_folder / "go"))
        until((lab.open_folder / "began").exists)
        (worker,) = node.workers()
        (node.warden() if victim == "warden" else worker.parent()).kill()
        until(lambda: not lives(worker))
        (lab.open_folder / "go").touch()

        assert future.result(20)


def test_a_node_that_hangs_does_not_hold_up_the_work_of_others(lab, until) -> None:
    """A stopped process keeps its connections; silence ends them."""
    quick = {"MESHD_NET_PING_INTERVAL_MS": "300", "MESHD_NET_SILENCE_MS": "1000"}
    submitter, hung, _ = lab.found(0, 1, 1, **quick)
    with submitter.mesh() as mesh:
        assert set(mesh.map(place, [0.02] * 20))
        hung.signal(signal.SIGSTOP)
        try:
            futures = [mesh.submit(place, 0.01) for _ in range(20)]
            assert all("scratch-n2" in future.result(20) for future in futures)
        finally:
            hung.signal(signal.SIGCONT)
        until(lambda: submitter.can_use() == 2)
