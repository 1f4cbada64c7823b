"""Attacks on a node's end: what does not want to die with whoever made it, when that one is killed."""

import ctypes
import os
import signal
import sys
import time

import cloudpickle
import psutil
import pytest

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def leave_and_wait() -> None:
    """A process of a session of its own, without a parent, that is deaf and has no wish to die with anybody."""
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    ctypes.CDLL(None).prctl(1, 0)
    time.sleep(100)


@pytest.mark.parametrize(
    "killed",
    [
        "daemon and warden",
        *(pytest.param(one, marks=pytest.mark.long) for one in ("daemon", "warden", "zygote")),
    ],
)
def test_whoever_is_killed_nothing_of_a_unit_is_left(lab, until, lives, record_property, killed) -> None:
    (node,) = lab.found(1, MESHD_CAGE_OFF="false")
    until(lambda: "not known" not in str(node.status()["isolation"]))
    if "not caged" in str(node.status()["isolation"]):
        pytest.skip("no cage holds for this user on this machine: `meshd doctor` says what is missing")
    cage = node.status()["cage"]
    with node.mesh() as mesh:
        unit = mesh.options(retries=0).submit(leave_and_wait)
        until(lambda: len(family(node)) >= 3)
        victims = family(node)
        warden = node.warden()
        if killed == "zygote":
            victims[0].kill()
        if "daemon" in killed:
            os.kill(node.pid, signal.SIGSTOP)  # so that neither sees the other's end
        if "warden" in killed:
            warden.kill()
        if "daemon" in killed:
            node.kill()
        try:
            until(lambda: not [each for each in victims if lives(each)], 5.0)
            left = []
        except AssertionError:
            left = [each for each in victims if lives(each)]
            for each in left:
                each.kill()
        unit.cancel()
        mesh.shutdown(wait=False, cancel_futures=True)
    record_property("held", not left)
    record_property("level", cage["level"])
    record_property("said", f"{len(victims)} processes, {len(left)} left")

    # Without namespaces it is the warden who ends what left its parents.
    keeps = {layer["name"] for layer in cage["layers"] if layer["active"]}
    assert not left or "namespaces" not in keeps


def family(node) -> list[psutil.Process]:
    """The zygote of the cage that has a worker, and all that came of it."""
    for zygote in node.zygotes():
        found = [zygote, *zygote.children(recursive=True)]
        if len(found) >= 3:  # the worker, and what it left
            return found
    return []
