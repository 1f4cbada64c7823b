"""Revoke, drain, leave and come back, on real daemons."""

import json
import signal
import time

import pytest

from meshd_node.cli.exits import Exit


def state_of(node, name: str) -> str:
    """What a node says of another one by its name."""
    return next((peer["state"] for peer in node.peers() if peer["name"] == name), "unknown")


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


# --- drain ------------------------------------------------------------------------------------------------------------


def test_drained_node_is_seen_so_gets_nothing_new_and_takes_work_again(lab, until) -> None:
    a, b = lab.found(0, 2)
    until(lambda: a.can_use() == 1)

    told = b.cli("drain", "--json")
    assert (told.returncode, json.loads(told.stdout)["state"]) == (0, "draining")
    until(lambda: state_of(a, "n1") == "draining")
    assert b.status()["state"] == "draining"
    with a.mesh() as mesh:
        future = mesh.submit(abs, -1)
        until(lambda: a.sees("draining") == 1)
        assert not future.done()

        assert b.cli("drain", "--off").stdout == "takes work again\n"
        until(lambda: state_of(a, "n1") == "alive")
        assert future.result(30) == 1


def test_drain_waits_for_what_runs_if_it_is_told_to(lab, until) -> None:
    a, b = lab.found(0, 1)
    until(lambda: a.can_use() == 1)
    with a.mesh() as mesh:
        future = mesh.submit(nap, 1.0)
        until(b.workers)

        waited = b.cli("drain", "--wait")

        assert waited.returncode == Exit.OK, waited.stderr
        assert waited.stdout.startswith("drained: ")
        assert future.result(30) == 1.0


def test_drain_of_a_node_without_others_ends_and_names_the_job_that_waits(lab, until) -> None:
    """Its own job can run nowhere while it drains: whoever waited for that waited for ever."""
    (a,) = lab.found(1)
    with a.mesh() as mesh:
        napping = [mesh.submit(nap, 2.0) for _ in range(2)]
        until(a.workers)

        waited = a.cli("drain", "--wait")

        assert waited.returncode == Exit.FAILED
        assert "1 unit" in waited.stderr
        assert "meshd cancel" in waited.stderr
        assert a.cli("drain", "--off").returncode == 0
        assert [each.result(30) for each in napping] == [2.0, 2.0]


def test_drain_does_not_survive_a_restart(lab, until) -> None:
    (a,) = lab.found(1)
    assert a.cli("drain").returncode == 0
    assert a.stop() == 0

    a.start().until_ready()

    assert a.status()["state"] == "ready"


# --- leave ------------------------------------------------------------------------------------------------------------


def test_node_that_leaves_is_known_to_have_left_and_is_seen_at_once_when_it_comes_back(lab, until) -> None:
    a, b, c = lab.found(1, 1, 1)
    assert c.stop() == 0

    until(lambda: {state_of(a, "n2"), state_of(b, "n2")} == {"left"})
    c.start().until_ready()
    until(lambda: {state_of(a, "n2"), state_of(b, "n2")} == {"alive"})
    with a.mesh() as mesh:
        assert mesh.submit(abs, -2).result(30) == 2


# --- revoke -----------------------------------------------------------------------------------------------------------


def test_revoked_node_stops_and_stays_out_and_everybody_knows(lab, until) -> None:
    a, b, c = lab.found(1, 1, 1)

    told = a.cli("revoke", "n2", "--reason", "laptop stolen", "--json")

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["reason"] == "laptop stolen"
    assert c.ended() == Exit.NO_PERMISSION
    assert "this node was revoked: laptop stolen" in c.log.read_text()
    until(lambda: {state_of(a, "n2"), state_of(b, "n2")} == {"revoked"})
    again = c.cli("up")
    assert (again.returncode, again.stderr.count("\n")) == (Exit.NO_PERMISSION, 1)
    assert "join with it in a new folder" in again.stderr


def test_revoked_node_that_forgot_it_is_refused_also_after_everybody_started_again(lab, until) -> None:
    """A thief deletes what tells the node of its end; whoever restarts must still refuse it."""
    a, b, c = lab.found(1, 1, 1)
    assert a.cli("revoke", "n2").returncode == 0
    assert c.ended() == Exit.NO_PERMISSION
    until(lambda: state_of(b, "n2") == "revoked")
    for node in (a, b):
        assert node.stop() == 0
        node.start().until_ready()
    (c.folder / "revocations.sqlite").unlink()

    c.start(MESHD_SEEDS=b.address)

    assert c.ended() == Exit.NO_PERMISSION, "it is shown the proof by whomever it dials"
    assert state_of(a, "n2") in {"revoked", "unknown"}


def test_units_of_a_node_that_is_revoked_run_elsewhere(lab, until) -> None:
    a, _, _ = lab.found(0, 1, 1)
    until(lambda: a.can_use() == 2)
    with a.mesh() as mesh:
        futures = [mesh.submit(nap, 0.5) for _ in range(8)]
        until(lambda: any(future.done() for future in futures))

        assert a.cli("revoke", "n2").returncode == 0

        assert [future.result(60) for future in futures] == [0.5] * 8


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("n0",), Exit.NO_PERMISSION, "no issuer"),
        (("nobody",), Exit.UNAVAILABLE, "no node is called 'nobody'"),
        (("n1",), Exit.USAGE, "does not revoke itself"),
        (("n0", "--operator", "x" * 65), Exit.USAGE, "65 characters"),
    ],
)
def test_revoke_that_can_not_be_is_refused_in_one_line(standing, arguments, code, words) -> None:
    told = standing[1].cli("revoke", *arguments)

    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (code, "", 1)
    assert words in told.stderr
    assert standing[0].status()["state"] == "ready"


def test_frozen_node_that_was_revoked_meanwhile_stops_when_it_wakes(lab, until) -> None:
    a, b, c = lab.found(1, 1, 1)
    c.signal(signal.SIGSTOP)
    try:
        assert a.cli("revoke", "n2").returncode == 0
        until(lambda: state_of(b, "n2") == "revoked")
    finally:
        c.signal(signal.SIGCONT)

    assert c.ended() == Exit.NO_PERMISSION
