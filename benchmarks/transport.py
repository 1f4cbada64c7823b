"""What the transport alone reaches between two processes on loopback: `python benchmarks/transport.py [--seconds S]`.

Small messages are `Credit`s of 12 bytes, sent in bursts of 256 as a busy owner would; large ones are 16 MiB each.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node import log
from meshd_node.net.config import NetConfig
from meshd_node.net.link import Link
from meshd_node.net.pool import Pool
from meshd_node.net.tls import Credentials
from meshd_protocol.certificates import Invited
from meshd_protocol.framing import Message
from meshd_protocol.ids import JobId, NodeId, mesh_id, node_id
from meshd_protocol.issuing import Signer, issue_node, serial_from
from meshd_protocol.limits import MIB
from meshd_protocol.messages.peer import Credit, FunctionData, SignRequest
from meshd_protocol.names import NodeName, Role

BURST = 256
LARGE = FunctionData(JobId(bytes(20)), bytes(16 * MIB))


@dataclass(frozen=True)
class Clocks:
    monotonic: Callable[[], float] = trio.current_time
    wall: Callable[[], float] = time.time


@dataclass
class Ends:
    """Counts at the receiving side and echoes what is marked; wakes the sending side."""

    up: trio.Event = field(default_factory=trio.Event)
    down: trio.Event = field(default_factory=trio.Event)
    echoed: trio.Event = field(default_factory=trio.Event)
    link: Link | None = None

    def link_up(self, link: Link) -> None:
        self.link = link
        self.up.set()

    def messages(self, link: Link, batch: list[tuple[Message, int]]) -> None:
        # Stream 1 asks for an echo, stream 2 is one.
        for _, stream in batch:
            if stream == 1:
                link.send(Credit(0, 0), 2)
            elif stream == 2:
                self.echoed.set()

    def link_down(self, link: Link, reason: str, refused: bool) -> None:
        self.down.set()

    def dial_failed(self, node: NodeId | None, address: str, reason: str, refused: bool) -> None:
        raise SystemExit(f"dial failed: {reason}")

    def keeps(self, link: Link) -> bool:
        return True

    def invited(self, invited: Invited, message: SignRequest, reply: Callable[[Message], None]) -> None: ...

    async def echo(self) -> None:
        await self.echoed.wait()
        self.echoed = trio.Event()


def credentials(root: Ed25519PrivateKey) -> Credentials:
    key, nonce = Ed25519PrivateKey.generate(), os.urandom(16)
    public, root_key = key.public_key(), root.public_key().public_bytes_raw()
    name = NodeName(
        mesh_id(root_key), node_id(public.public_bytes_raw(), nonce), "lab", frozenset({Role.WORKER}), nonce
    )
    leaf = issue_node(Signer.root(root), public, name, serial_from(os.urandom(20)), time.time())
    return Credentials(root_key, (leaf,), key)


def serve(root: bytes, pipe: Pipe) -> None:
    async def main() -> None:
        ends = Ends()
        pool = Pool(ends, credentials(Ed25519PrivateKey.from_private_bytes(root)), NetConfig(), Clocks())
        pool.listen("127.0.0.1:0")
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            pipe.send(pool.bound[0])
            await ends.down.wait()
            pool.stop()

    quiet()
    trio.run(main)


async def measure(root: Ed25519PrivateKey, address: str, seconds: float) -> None:
    ends = Ends()
    pool = Pool(ends, credentials(root), NetConfig(), Clocks())
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        pool.dial_seed(address)
        await ends.up.wait()
        assert ends.link is not None
        await round_trips(pool, ends, ends.link)
        await small(pool, ends, ends.link, seconds)
        await bulk(pool, ends, ends.link, seconds)
        pool.stop()


async def round_trips(pool: Pool, ends: Ends, link: Link) -> None:
    samples = []
    for _ in range(2_000):
        begun = time.perf_counter()
        link.send(Credit(0, 0), 1)
        pool.flush()
        await ends.echo()
        samples.append(time.perf_counter() - begun)
    print(f"round trip, median   {statistics.median(samples) * 1e6:12,.0f} µs")


async def small(pool: Pool, ends: Ends, link: Link, seconds: float) -> None:
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for _ in range(BURST):
            link.send(Credit(1_000, 1_000_000))
        count += BURST
        pool.flush()
        await link.room()
    link.send(Credit(0, 0), 1)
    pool.flush()
    await ends.echo()
    print(f"small messages       {count / (time.perf_counter() - begun):12,.0f} /s")


async def bulk(pool: Pool, ends: Ends, link: Link, seconds: float) -> None:
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        link.send(LARGE)
        count += 1
        pool.flush()
        await link.room()
    link.send(Credit(0, 0), 1, bulk=True)
    pool.flush()
    await ends.echo()
    print(f"bulk                 {count * len(LARGE.data) / 1e9 / (time.perf_counter() - begun):12.2f} GB/s")


def quiet() -> None:
    log.configure("warning", as_json=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each figure is measured")
    seconds = parser.parse_args().seconds
    quiet()
    root = Ed25519PrivateKey.generate()
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    server = spawn.Process(target=serve, args=(root.private_bytes_raw(), theirs), daemon=True)
    server.start()
    trio.run(measure, root, ours.recv(), seconds)
    server.join(10)


if __name__ == "__main__":
    main()
