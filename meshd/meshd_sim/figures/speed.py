"""How fast the simulator itself is. The only figures here that depend on the machine."""

import resource
import time
from collections.abc import Iterator
from typing import Final

from meshd_protocol.framing import Message
from meshd_protocol.ids import ID_BYTES, NodeId
from meshd_protocol.messages.membership import Probe
from meshd_sim.conditions import Conditions
from meshd_sim.engine import Engine
from meshd_sim.figures.meshes import settled
from meshd_sim.figures.rows import Row
from meshd_sim.network import Network
from meshd_sim.ports import Port
from meshd_sim.world import World

_VIRTUAL_S: Final = 60.0
_LARGEST: Final = 8_192


def speed() -> Iterator[Row]:
    """The engine and its network alone, then quiet meshes with a crash for a minute of virtual time."""
    rate = _talk()
    how = "heap, links and the real codec; no machines"
    yield Row(name="engine alone, events a second", measured=rate, goal=250e3, unit="/s", how=how, least=True)
    world, nodes, _ = settled(0, 128)
    world.crash(nodes[7], machine=True)
    events, took = _timed(world)
    how = f"128 nodes, {_VIRTUAL_S / took:.0f} times real time"
    yield Row(name="simulator, events a second", measured=events / took, goal=250e3, unit="/s", how=how, least=True)
    world, nodes, _ = settled(0, 1_024)
    world.crash(nodes[7], machine=True)
    events, took = _timed(world)
    how = f"1,024 nodes, {events / took:,.0f} events a second"
    yield Row(name="simulator, times real time", measured=_VIRTUAL_S / took, goal=20, unit="x", how=how, least=True)


def memory() -> Iterator[Row]:
    """The largest mesh, all views whole."""
    began = time.perf_counter()
    world = World(0)
    world.found(_LARGEST)
    world.run(10.0)
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    how = f"8,192 nodes with whole views, 10 s of their time in {took:.0f} s"
    yield Row(name="simulator, memory", measured=peak, goal=20, unit="GiB", how=how)


class _Talker:
    """Answers each probe by the next one."""

    def __init__(self, port: Port) -> None:
        self._port = port
        port.endpoint = self

    def admits(self, node: NodeId) -> bool:
        """Anybody."""
        return True

    def link_up(self, node: NodeId, address: str) -> None:
        """Whoever dialled begins."""
        if address:
            self._port.write(node, Probe(0))

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        """It does not happen here."""

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        """It does not happen here."""

    def messages(self, node: NodeId, batch: list[tuple[Message, int]]) -> None:
        """Answer."""
        for message, _ in batch:
            if isinstance(message, Probe):
                self._port.write(node, Probe(message.sequence + 1))

    def thawed(self) -> None:
        """It does not happen here."""


def _talk() -> float:
    """Events a second of 128 nodes that talk in pairs, each in real frames."""
    engine = Engine(0)
    network = Network(engine, Conditions())
    addresses = [f"10.0.0.{number}:7423" for number in range(128)]
    ports = [network.attach(NodeId(bytes([number]) * ID_BYTES), address) for number, address in enumerate(addresses)]
    for port in ports:
        _Talker(port)
    for index, port in enumerate(ports):
        port.dial(None, (addresses[index ^ 1],))
    engine.run(5.0)
    events, began = engine.events, time.process_time()
    engine.run(_VIRTUAL_S)
    return (engine.events - events) / (time.process_time() - began)


def _timed(world: World) -> tuple[int, float]:
    """Events, and the seconds of processor time that they took: others may use this machine, too."""
    events, began = world.engine.events, time.process_time()
    world.run(_VIRTUAL_S)
    return world.engine.events - events, time.process_time() - began
