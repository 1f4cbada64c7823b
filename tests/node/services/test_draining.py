"""Drains by command and at the end: what is told to whom, and in which order."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.seams import KeySigner, Seams
from meshd_node.services.draining import Draining
from meshd_protocol.ids import JobId, to_text
from meshd_protocol.records import Phase

JOB = JobId(bytes([7] * 20))


class World:
    """An executor and a mesh that write down what they are told."""

    def __init__(self) -> None:
        self.story: list[object] = []
        self.executor = SimpleNamespace(running=2)
        self.jobs: list[Any] = [
            SimpleNamespace(job=JOB, name="sweep", waiting=3, running=1),
            SimpleNamespace(job=JobId(bytes(20)), name="ended", waiting=0, running=0),
        ]
        seams = Seams(signer=KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(32))))
        owner = SimpleNamespace(jobs=lambda: self.jobs, why=lambda job, index, now: ["counts", "no node is connected"])
        outflow = SimpleNamespace(flush=lambda: self.note("flush"))
        self.draining = Draining(self, owner, self.note, seams, outflow)  # type: ignore[arg-type]

    def note(self, what: object) -> None:
        self.story.append(what)

    def drain(self, until: float) -> None:
        self.note("for ever" if until == math.inf else round(until - trio.current_time()))

    def resume(self) -> None:
        self.note("resume")


@pytest.fixture
def world() -> World:
    return World()


async def test_drain_is_told_to_the_mesh_once_and_has_no_end(world: World) -> None:
    world.draining.begin()
    world.draining.begin()

    assert world.story == [Phase.DRAINING, "for ever", "for ever"]
    assert world.draining.progress() == {
        "state": "draining",
        "running": 2,
        "own_units": 4,
        "own_running": 1,
        "kept_by": [{"job": to_text(JOB), "name": "sweep", "units": 4, "why": ["no node is connected"]}],
    }


async def test_node_that_takes_work_again_says_so_before_it_does(world: World) -> None:
    world.draining.begin()
    world.story.clear()

    world.draining.end()
    world.draining.end()

    assert world.story == [Phase.ALIVE, "resume"]
    assert world.draining.progress()["state"] == "ready"


async def test_stop_waits_until_nothing_runs(world: World, nursery, autojump_clock) -> None:
    done = trio.Event()

    async def stop() -> None:
        await world.draining.stop(10)
        done.set()

    nursery.start_soon(stop)
    await trio.sleep(3)
    assert world.story == [Phase.DRAINING, 10, "flush"]
    assert not done.is_set()

    world.draining.idle()
    with trio.fail_after(1):
        await done.wait()
    assert world.draining.stopping


async def test_stop_has_an_end_though_something_hangs(world: World, autojump_clock) -> None:
    begun = trio.current_time()

    await world.draining.stop(10)

    assert 10 <= trio.current_time() - begun < 12


async def test_stop_of_a_node_that_was_drained_by_command_waits_for_its_own_end(
    world: World, nursery, autojump_clock
) -> None:
    """What was over when the command's drain was is not what the stop waits for."""
    world.draining.begin()
    world.draining.idle()
    world.story.clear()
    begun = trio.current_time()

    await world.draining.stop(10)

    assert world.story == [10, "flush"], "the mesh knows already"
    assert trio.current_time() - begun >= 10
