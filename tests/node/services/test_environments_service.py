"""What is asked of environments, and what is told of them: a store that obeys the test stands for the disk."""

from pathlib import Path

import pytest
import trio
import trio.testing

from meshd_node.core.submitter import Submitter
from meshd_node.environments.errors import EnvironmentRefused
from meshd_node.services.execution.environments import (
    RETRY_S,
    WAITING_MAX,
    WAITING_OF_SUBMITTER_MAX,
    Environments,
)
from meshd_protocol.ids import NodeId, function_digest


def lock_of(name: str) -> bytes:
    return f"{name}==1.0 \\\n    --hash=sha256:{'a' * 64}\n".encode()


def submitter(uid: int) -> Submitter:
    return Submitter(NodeId(b"s" * 20), uid)


ONE = lock_of("one")
DIGEST = function_digest(ONE)


class FakeHeld:
    def __init__(self, digest: bytes) -> None:
        self.site = Path("/environments") / digest.hex()
        self.released = False

    def release(self) -> None:
        assert not self.released
        self.released = True


class FakeStore:
    """`fault` is what it raises; while `gate` is closed nothing is built."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.held: list[FakeHeld] = []
        self.fault: Exception | None = None
        self.gate = trio.Event()
        self.gate.set()
        self.building = 0

    async def acquire(self, digest, lock, tell) -> FakeHeld:
        self.asked.append(digest)
        self.building += 1
        assert self.building == 1, "one build at a time"
        tell("installing, 7 MiB so far")
        await self.gate.wait()
        self.building -= 1
        if self.fault is not None:
            raise self.fault
        self.held.append(FakeHeld(digest))
        return self.held[-1]


class Machine:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.ready: list[bytes] = []
        self.failed: list[tuple[bytes, str]] = []
        self.gone: list[bytes] = []
        self.in_use: set[bytes] = set()

    def environment_ready(self, environment: bytes) -> None:
        self.ready.append(environment)
        self.in_use.add(environment)

    def environment_failed(self, environment: bytes, reason: str) -> None:
        self.failed.append((environment, reason))

    def environment_gone(self, environment: bytes) -> None:
        self.gone.append(environment)

    def uses(self, environment: bytes) -> bool:
        return environment in self.in_use


class Bench:
    def __init__(self) -> None:
        self.store = FakeStore()
        self.machine = Machine()
        self.service = Environments(self.store, self.machine)  # type: ignore[arg-type]


@pytest.fixture
async def bench(nursery) -> Bench:
    bench = Bench()
    await nursery.start(bench.service.run)
    return bench


async def test_what_is_asked_for_is_built_and_held_while_it_is_used(bench, autojump_clock) -> None:
    assert bench.service.site(b"") == ""
    bench.service.prepare(DIGEST, submitter(1), ONE)
    await trio.sleep(1)

    assert bench.machine.ready == [DIGEST]
    assert bench.service.site(DIGEST) == f"/environments/{DIGEST.hex()}"
    await trio.sleep(3_600)
    assert not bench.store.held[0].released

    bench.machine.in_use.clear()
    await trio.sleep(100)
    assert bench.machine.gone == [DIGEST]
    assert bench.store.held[0].released
    assert bench.service.rows() == []


async def test_a_build_that_failed_is_tried_again_after_a_while_only(bench, autojump_clock) -> None:
    bench.store.fault = EnvironmentRefused("no wheel for this platform")
    bench.service.prepare(DIGEST, submitter(1), ONE)
    await trio.sleep(1)
    bench.service.prepare(DIGEST, submitter(1), ONE)

    assert bench.machine.failed == [(DIGEST, "no wheel for this platform")] * 2
    assert len(bench.store.asked) == 1
    await trio.sleep(RETRY_S)
    bench.store.fault = None
    bench.service.prepare(DIGEST, submitter(1), ONE)
    await trio.sleep(1)
    assert bench.machine.ready == [DIGEST]


async def test_a_folder_that_can_not_be_written_is_a_reason_and_no_end_of_the_daemon(bench, autojump_clock) -> None:
    bench.store.fault = OSError(30, "Read-only file system")
    bench.service.prepare(DIGEST, submitter(1), ONE)
    await trio.sleep(1)

    assert bench.machine.failed == [(DIGEST, "this node can not keep environments: Read-only file system")]


@pytest.mark.parametrize("data", [b"-r /etc/passwd\n", b"\xff", b"", b"six==1.0 --index-url http://x\n"])
async def test_what_is_no_lock_is_refused_at_once(bench, autojump_clock, data) -> None:
    bench.service.prepare(DIGEST, submitter(1), data)

    ((digest, reason),) = bench.machine.failed
    assert digest == DIGEST
    assert "not a lock" in reason
    assert not bench.store.asked


async def test_builds_are_made_one_after_the_other_and_shown(bench, autojump_clock) -> None:
    bench.store.gate = trio.Event()
    for name in ("one", "two"):
        bench.service.prepare(function_digest(lock_of(name)), submitter(1), lock_of(name))
    await trio.sleep(5)

    assert [(row.packages, row.state, row.seconds) for row in bench.service.rows()] == [
        (1, "installing, 7 MiB so far", 5.0),
        (1, "waiting for its turn", 5.0),
    ]
    bench.store.gate.set()
    await trio.sleep(1)
    assert [row.state for row in bench.service.rows()] == ["ready", "ready"]


async def test_nobody_fills_the_queue_of_builds_for_others(bench, autojump_clock) -> None:
    bench.store.gate = trio.Event()
    for number in range(WAITING_MAX + 1):
        lock = lock_of(f"greedy{number}")
        bench.service.prepare(function_digest(lock), submitter(1), lock)
    assert len(bench.machine.failed) == WAITING_MAX + 1 - WAITING_OF_SUBMITTER_MAX

    bench.service.prepare(DIGEST, submitter(2), ONE)
    bench.store.gate.set()
    await trio.sleep(1)
    assert DIGEST in bench.machine.ready
    assert all("try again later" in reason for _, reason in bench.machine.failed)


async def test_a_daemon_that_ends_lets_go_of_everything() -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.service.run)
        bench.service.prepare(DIGEST, submitter(1), ONE)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert bench.store.held[0].released
