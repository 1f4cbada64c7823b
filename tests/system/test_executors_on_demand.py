"""A mesh is no full mesh of sessions: who has work asks for more of them, an idle mesh keeps those that it lives by."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

LENDERS = 5
# One ring: each node has two neighbours. Links that carry nothing else than pings end soon.
SPARSE = {"MESHD_MEMBERSHIP_RINGS": "1", "MESHD_NET_IDLE_MS": "2500", "MESHD_MEMBERSHIP_REPAIR_S": "60"}


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.05)


@pytest.fixture
def sparse(lab):
    slots = [str(int(number > 0)) for number in range(LENDERS + 1)]
    nodes = [lab.node(f"n{number}", **SPARSE, MESHD_CHARTER_SLOTS=each) for number, each in enumerate(slots)]
    lab.init(nodes[0]).start().until_ready()
    for node in nodes[1:]:
        lab.join(node, nodes[0]).start()
    for node in nodes[1:]:
        node.until_ready()
    submitter = lab.join(lab.node("submitter", **SPARSE, MESHD_CHARTER_SLOTS="0"), nodes[0]).start().until_ready()
    _until(lambda: all(node.sees("alive") == LENDERS + 2 for node in (*nodes, submitter)))
    return submitter


def test_work_reaches_nodes_that_its_submitter_has_no_session_with(sparse) -> None:
    _until(lambda: sparse.can_use() <= 2)
    with sparse.mesh() as mesh:
        places = set(mesh.map(lambda _: (time.sleep(0.2), os.getcwd())[1], range(60)))
    assert len({Path(place).parts[-4] for place in places}) == LENDERS

    # Nothing is left to do: the sessions that were asked for end, those of the ring stay.
    _until(lambda: sparse.can_use() <= 2)
    assert sparse.sees("alive") == LENDERS + 2
