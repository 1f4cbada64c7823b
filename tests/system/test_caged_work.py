"""Whole daemons whose work is caged as well as this machine can."""

import os
import time
from pathlib import Path

import pytest

CAGED = {"MESHD_CAGE_OFF": "false"}


@pytest.fixture
def caged(lab, until):
    """A node that lends one worker, once it knows what its cages keep."""
    (node,) = lab.found(1, **CAGED)
    until(lambda: "not known" not in str(node.status()["isolation"]))
    if "not caged" in str(node.status()["isolation"]):
        pytest.skip("no cage holds for this user on this machine: `meshd doctor` says what is missing")
    return node


def read(path: str) -> str:
    try:
        return Path(path).read_bytes().hex()
    except OSError as error:
        return type(error).__name__


def test_a_node_tells_what_its_cage_keeps_and_work_runs_in_one(caged, until) -> None:
    cage = caged.status()["cage"]

    assert cage["level"] in {"strict", "confined"}
    assert {layer["name"] for layer in cage["layers"] if layer["active"]} >= {"files", "network", "other processes"}
    with caged.mesh() as mesh:
        assert mesh.submit(pow, 2, 10).result(20) == 1024
        assert list(mesh.map(abs, range(-300, 0))) == list(range(300, 0, -1))


def test_work_reaches_neither_the_nodes_key_nor_its_socket_nor_its_folder(caged) -> None:
    key = caged.folder / "node.key"
    assert key.exists()
    with caged.mesh() as mesh:
        assert mesh.submit(read, str(key)).result(20) in {"FileNotFoundError", "PermissionError"}
        assert mesh.submit(read, str(caged.socket)).result(20) in {"FileNotFoundError", "PermissionError"}
        assert mesh.submit(os.getcwd).result(20) != os.getcwd()


def test_what_makes_cages_is_replaced_when_it_is_killed_and_caged_units_run_again(caged, until, lives) -> None:
    with caged.mesh() as mesh:
        running = mesh.submit(time.sleep, 2)
        until(caged.workers)
        (worker,) = caged.workers()
        caged.warden().kill()
        until(lambda: not lives(worker))

        assert running.result(40) is None


def test_a_daemon_that_is_killed_leaves_no_cage(caged, until) -> None:
    with caged.mesh() as mesh:
        mesh.submit(time.sleep, 100)
        until(caged.workers)
        caged.kill()

    until(lambda: not caged.left_over())
