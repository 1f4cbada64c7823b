"""Options and resources say no to what can not be, in words; the daemon gets what was meant."""

import math
import sys
from pathlib import Path

import pytest

from meshd_protocol.messages.local import OpenJob
from meshd_protocol.records import Policy, Runtime
from meshd_sdk import Mesh, Resources
from meshd_sdk.location import socket_path
from meshd_sdk.options import Options


@pytest.mark.parametrize(
    ("memory", "size"),
    [(0, 0), (1_000, 1_000), ("0", 0), ("512", 512), ("1B", 1), ("2KB", 2_000), ("4GiB", 4 << 30), ("1.5 gib", 3 << 29),
     (" 10 MB ", 10_000_000)],
)  # fmt: skip
def test_memory_is_bytes_or_a_size(memory, size):
    assert Resources(memory=memory).memory_bytes == size


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory": "lots"}, {"memory": "4 XB"}, {"memory": "-1GiB"}, {"memory": -1}, {"memory": "9999999TiB"},
        {"memory": ""}, {"memory": "1e9"}, {"cpus": 0}, {"cpus": -1}, {"cpus": math.nan}, {"cpus": math.inf},
        {"cpus": 1e9}, {"gpus": -1}, {"gpus": 65},
    ],
)  # fmt: skip
def test_resources_that_no_node_has_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        Resources(**wrong)


@pytest.mark.parametrize("wrong", [{"memory": 1.5}, {"memory": None}, {"cpus": "2"}, {"cpus": True}, {"gpus": 1.0}])
def test_resources_of_another_type_are_refused(wrong):
    with pytest.raises(TypeError, match=f"{next(iter(wrong))} must be"):
        Resources(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"replicas": 17}, "replicas must be from 0 to 16"),
        ({"replicas": 2, "quorum": 3}, "at least as many replicas"),
        ({"quorum": 1}, "at least as many replicas"),
        ({"trust": "blind"}, 'trust must be "default"'),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": -1}, "timeout must be"),
        ({"timeout": math.inf}, "timeout must be"),
        ({"timeout": 1e12}, "timeout must be"),
        ({"retries": 32}, "retries must be from 0 to 31"),
        ({"retries": -1}, "retries must be from 0 to 31"),
        ({"pure": False, "replicas": 2}, "pure=False"),
        ({"pure": False, "retries": 1}, "pure=False"),
        ({"name": "x" * 201}, "at most 200 characters"),
    ],
)
def test_options_that_contradict_themselves_are_refused(tmp_path, wrong, said):
    with pytest.raises(ValueError, match=said):
        Mesh(tmp_path / "none").options(**wrong)


@pytest.mark.parametrize("wrong", [{"replicas": "2"}, {"replicas": True}, {"retries": 1.5}, {"resources": {"cpus": 1}}])
def test_options_of_another_type_are_refused(tmp_path, wrong):
    with pytest.raises(TypeError, match="must be"):
        Mesh(tmp_path / "none").options(**wrong)


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({}, Policy()),
        ({"replicas": 3}, Policy(replicas=3, quorum=2)),
        ({"replicas": 4}, Policy(replicas=4, quorum=3)),
        ({"replicas": 3, "quorum": 3}, Policy(replicas=3, quorum=3)),
        ({"retries": 0}, Policy(failures_max=1)),
        ({"timeout": 0.0005}, Policy(timeout_ms=1)),
        ({"timeout": 90}, Policy(timeout_ms=90_000)),
        ({"pure": False}, Policy(pure=False, failures_max=1)),
    ],
)
def test_options_become_the_policy_that_they_mean(options, policy):
    assert Options(**options).policy == policy


def test_options_reach_the_daemon_and_are_inherited_by_options_of_options(mesh, daemon):
    view = mesh.options(name="outer", resources=Resources(cpus=0.5, memory="1GiB", gpus=1)).options(replicas=2)
    assert view.submit(abs, -1).result(5) == 1

    (opening,) = daemon.of_kind(OpenJob)
    assert opening.name == "outer"
    assert opening.policy == Policy(replicas=2, quorum=2)
    assert (opening.needs.cpu_milli, opening.needs.memory_bytes, opening.needs.gpus) == (500, 1 << 30, 1)
    assert opening.needs.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert not opening.detached


def test_view_shares_the_connection_and_opens_a_job_of_its_own(mesh, daemon):
    view = mesh.options(replicas=1)
    assert mesh.submit(abs, -1).result(5) == view.submit(abs, -1).result(5) == 1

    assert len(daemon.connections) == 1
    assert len(daemon.of_kind(OpenJob)) == 2


def test_socket_is_looked_for_in_the_order_that_the_manual_gives(monkeypatch, tmp_path):
    monkeypatch.setattr("meshd_sdk.location._OF_THE_SYSTEM", (tmp_path / "run.sock", tmp_path / "lib.sock"))
    monkeypatch.setattr("os.getuid", lambda: 1_000)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MESHD_SOCKET", "MESHD_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    own = tmp_path / ".local/share/meshd/meshd.sock"

    assert Path(socket_path()) == own, "where `meshd up` would make it"
    (tmp_path / "run.sock").touch()
    assert Path(socket_path()) == tmp_path / "run.sock"
    own.parent.mkdir(parents=True)
    own.touch()
    assert Path(socket_path()) == own
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Path(socket_path()) == tmp_path / "run.sock"
    monkeypatch.setenv("MESHD_DIR", "/some/node")
    assert Path(socket_path()) == Path("/some/node/meshd.sock")
    monkeypatch.setenv("MESHD_SOCKET", "/some.sock")
    assert Path(socket_path()) == Path("/some.sock")
    assert Path(socket_path("/given.sock")) == Path("/given.sock")


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, False), ({"own_process": True}, True), ({"resources": Resources(gpus=1)}, True),
     ({"resources": Resources(gpus=1), "own_process": False}, False)],
)  # fmt: skip
def test_units_have_a_process_of_their_own_if_they_ask_for_it_or_for_gpus(given, expected):
    assert Options(**given).needs.own_process is expected
    assert Options(**given).needs_for(Runtime.COMMAND).own_process is False, "a command has one in any case"
