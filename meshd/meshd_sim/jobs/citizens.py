"""The nodes of a world of jobs: who they belong to, how they behave, and what others see of them."""

import random
from collections.abc import Collection
from dataclasses import dataclass

from meshd_node.core.owner.events import ExecutorView
from meshd_protocol.ids import ID_BYTES, NodeId
from meshd_protocol.records import CageLevel, Offer, Phase
from meshd_sim.jobs.faults import JobFault
from meshd_sim.jobs.habits import Habits, draw_habits
from meshd_sim.jobs.part import JobPart
from meshd_sim.ports import Port
from meshd_sim.process import Clock, Process


@dataclass(frozen=True, slots=True)
class Birth:
    """What a node is, before it has a place in the network."""

    node: NodeId
    operator: str
    slots: int
    habits: Habits
    submits: bool


class Citizen:
    """One node through all its lives. `process` and `part` are of the present one, None while it is down."""

    def __init__(self, birth: Birth, port: Port, clock: Clock) -> None:
        self.node = birth.node
        self.operator = birth.operator
        self.slots = birth.slots
        self.habits = birth.habits
        self.submits = birth.submits
        self.address = address_of(birth.node)
        self.port = port
        self.clock = clock
        self.process: Process | None = None
        self.part: JobPart | None = None
        self.phase = Phase.ALIVE
        self.knows_revoked: set[NodeId] = set()
        self.lives = 0

    def view(self, viewer: "Citizen") -> ExecutorView:
        """What another node sees of it. Nodes of one operator trust each other."""
        offer = Offer(self.phase, 8_000, 1 << 34, [], self.slots, ["3.11"], "linux", 10**7, CageLevel.STRICT, False)
        trusted = self.operator == viewer.operator
        return ExecutorView(self.node, self.operator, trusted, self.phase is Phase.ALIVE, offer, 0.01)


def births(count: int, kinds: Collection[JobFault], rng: random.Random) -> list[Birth]:
    """A lab whose nodes trust each other, and strangers, of whom some are bad and some share an operator.

    Users submit on honest nodes: a node that lies to itself harms nobody else.
    """
    lab = rng.randint(1, max(count // 3, 1))
    drawn = []
    for number in range(count):
        own = number < lab
        operator = "lab" if own else rng.choice([f"op{number}", f"op{number}", "club"])
        habits = draw_habits(rng, kinds, trusted=own or operator == "club")
        submits = number == 0 or (habits.honest and not habits.silent and rng.random() < 0.2)
        node = NodeId(b"%04d" % number + rng.randbytes(ID_BYTES - 4))
        drawn.append(Birth(node, operator, rng.randint(1, 4), habits, submits))
    return drawn


def address_of(node: NodeId) -> str:
    """Where a node listens."""
    return f"node{node[:4].decode()}.test:7423"
