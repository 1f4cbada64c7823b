"""Nodes that know each other by a plain roster: worlds that look at jobs alone."""

from functools import partial
from typing import Final, TextIO

from meshd_protocol.ids import NodeId
from meshd_protocol.records import Phase
from meshd_sim.conditions import Conditions
from meshd_sim.engine import Engine
from meshd_sim.jobs.acquaintances import Acquaintances
from meshd_sim.jobs.citizens import Birth, Citizen, address_of
from meshd_sim.jobs.part import JOB_MESSAGES, JobPart, Machines
from meshd_sim.jobs.witness import JobWitness
from meshd_sim.keys import Keyring
from meshd_sim.network import Network
from meshd_sim.process import Clock, Process
from meshd_sim.trace import Trace

# Clocks show anything at the start: nobody may compare two of them.
_CLOCKS_BEGIN_WITHIN_S: Final = 1_000.0
# How long news of a node takes to others.
_NEWS_S: Final = 3.0


class Society:
    """All nodes of one world, through all their lives."""

    def __init__(self, seed: int, conditions: Conditions, machines: Machines, out: TextIO | None = None) -> None:
        self.engine = Engine(seed)
        self.network = Network(self.engine, conditions)
        self.keyring = Keyring(seed)
        self.citizens: dict[NodeId, Citizen] = {}
        self.witness = JobWitness(lambda: self.engine.now, self._is_honest)
        self.trace = Trace(lambda: self.engine.now, lambda node: node[:4].decode(), out)
        self.network.trace = self.trace
        self._machines = machines
        self._rng = self.engine.stream("society")

    def settle(self, births: list[Birth], *, drift: float) -> None:
        """Bring all nodes into the world; each clock is up to this share too fast or too slow."""
        for birth in births:
            port = self.network.attach(birth.node, address_of(birth.node))
            offset, rate = self._rng.uniform(0.0, _CLOCKS_BEGIN_WITHIN_S), 1.0 + self._rng.uniform(-drift, drift)
            self.citizens[birth.node] = Citizen(birth, port, Clock(self.engine, offset, rate))
        for citizen in self.citizens.values():
            self.start(citizen)

    # --- lives ----------------------------------------------------------------------------------------------------

    def start(self, citizen: Citizen) -> None:
        """Start a process."""
        assert citizen.process is None, "one process of a node at a time"
        citizen.lives += 1
        citizen.phase = Phase.ALIVE
        if not citizen.port.powered:
            self.network.power_on(citizen.port)
        process = citizen.process = Process(citizen.port, self.engine, citizen.clock, self.keyring)
        rng = self.engine.stream(f"jobs/{citizen.address}/{citizen.lives}")
        part = citizen.part = JobPart(
            process, self.keyring.mesh, citizen.view(citizen), citizen.habits, self._machines, rng, self.witness
        )
        addresses = {each.node: each.address for each in self.citizens.values()}
        acquaintances = Acquaintances(process, addresses, partial(self._met, citizen))
        process.add(part, JOB_MESSAGES)
        process.add(acquaintances, ())
        process.refuse(citizen.knows_revoked.__contains__)
        citizen.port.endpoint = process
        process.enter(part.start)
        process.enter(acquaintances.start)

    def stop(self, citizen: Citizen, *, machine: bool) -> None:
        """End a process, or its whole machine."""
        if citizen.process is None or citizen.part is None:
            return
        citizen.process.alive = False
        citizen.part.end()
        citizen.process = citizen.part = None
        self.witness.owner_ended(citizen.node)
        self.witness.executor_ended(citizen.node)
        if machine:
            self.network.power_off(citizen.port)
        else:
            self.network.kill(citizen.port)

    # --- news -----------------------------------------------------------------------------------------------------

    def drain(self, citizen: Citizen, seconds: float) -> None:
        """Let a node take nothing new; the others hear of it in time."""
        process, part = citizen.process, citizen.part
        if process is None or part is None:
            return
        citizen.phase = Phase.DRAINING
        process.enter(lambda: part.executor.drain(process.now + seconds))
        for viewer in self.citizens.values():
            self.engine.after(self._rng.uniform(0.0, _NEWS_S), self._tell, (viewer, citizen))

    def revoke(self, citizen: Citizen) -> None:
        """End a node's certificate: every other node cuts it off as it hears of it."""
        for viewer in self.citizens.values():
            if viewer is not citizen:
                self.engine.after(self._rng.uniform(0.0, _NEWS_S), self._cut_off, (viewer, citizen))

    def _met(self, viewer: Citizen, node: NodeId) -> None:
        self._tell((viewer, self.citizens[node]))

    def _tell(self, news: tuple[Citizen, Citizen]) -> None:
        viewer, citizen = news
        if viewer.process is not None and viewer.part is not None:
            viewer.process.enter(partial(viewer.part.seen, citizen.view(viewer)))

    def _cut_off(self, news: tuple[Citizen, Citizen]) -> None:
        viewer, citizen = news
        viewer.knows_revoked.add(citizen.node)
        if viewer.process is not None:
            viewer.process.enter(partial(self._hang_up, viewer, citizen))

    def _hang_up(self, viewer: Citizen, citizen: Citizen) -> None:
        self.witness.revoked(viewer.node, citizen.node)
        if viewer.process is not None and viewer.part is not None:
            viewer.part.owner.revoked(citizen.node)
            viewer.process.hang_up(citizen.node)

    def _is_honest(self, node: NodeId) -> bool:
        return self.citizens[node].habits.honest
