"""What goes wrong in a world: a swarm of faults drawn from the seed, many of them absent, until it is quiet again."""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Final

from meshd_protocol.records import Phase
from meshd_sim.disks import Damage
from meshd_sim.pipes import Pipe
from meshd_sim.world import Node, World


class Fault(Enum):
    """Kinds of fault. Each is drawn by itself: what hides behind another one shows when that one is absent."""

    CRASH = "crash"  # the process ends, its machine says so
    POWER = "power"  # the machine ends: silence
    FREEZE = "freeze"  # the process stops for a while, timers and all
    STALL = "stall"  # a link, or all links of a node, stop for 1 to 3 s
    RESET = "reset"
    HALF_OPEN = "half-open"
    PARTITION = "partition"
    ONE_WAY = "one-way"  # nothing passes in one direction
    CHURN = "churn"  # nodes leave in words, and others join
    MOVE = "move"  # a node comes back at another address
    DISK = "disk"  # crashes tear disks, or lose them
    DRIFT = "drift"  # clocks are up to a fifth too fast or too slow
    LIES = "lies"
    REVOKE = "revoke"
    LOSS = "loss"  # datagrams only, and the next two
    DUPLICATION = "duplication"
    STRAGGLING = "straggling"


DATAGRAM_FAULTS: Final = frozenset({Fault.LOSS, Fault.DUPLICATION, Fault.STRAGGLING})
# With only these nobody may be held dead who lives: links fail, and nodes do not.
HARMLESS: Final = frozenset({Fault.STALL, Fault.RESET, Fault.HALF_OPEN, Fault.DRIFT, Fault.REVOKE})
# Those that strike now and then, rather than being the way things are.
_STRIKING: Final = frozenset(Fault) - DATAGRAM_FAULTS - {Fault.DISK, Fault.DRIFT, Fault.LIES}
DRIFT_MAX: Final = 0.2


@dataclass(frozen=True, slots=True)
class Swarm:
    """Which faults a seed has; each strikes every `pause_s` seconds on average."""

    kinds: frozenset[Fault]
    pause_s: dict[Fault, float]

    def without(self, kind: Fault) -> "Swarm":
        """The same world less one kind of fault."""
        return Swarm(self.kinds - {kind}, self.pause_s)


def draw(rng: random.Random, allowed: Collection[Fault]) -> Swarm:
    """Draw half of the allowed kinds, on average. Chance is drawn for all of them, so that a seed keeps its meaning."""
    kinds = {kind for kind in Fault if (rng.random() < 0.5) & (kind in allowed)}
    return Swarm(frozenset(kinds), {kind: rng.uniform(2.0, 20.0) for kind in Fault})


class Faults:
    """Strikes, and mends what it struck. Liars and nodes in `spared` are left alone by crashes."""

    def __init__(self, world: World, swarm: Swarm) -> None:
        self._world = world
        self._swarm = swarm
        self._rng = world.engine.stream("faults")
        self._active = False
        self._round = 0
        self._cuts: dict[int, None] = {}
        self.struck: dict[Fault, int] = {}
        self._strikes: dict[Fault, Callable[[], None]] = {
            Fault.CRASH: self._crash,
            Fault.POWER: self._power,
            Fault.FREEZE: self._freeze,
            Fault.STALL: self._stall,
            Fault.RESET: self._reset,
            Fault.HALF_OPEN: self._half_open,
            Fault.PARTITION: self._partition,
            Fault.ONE_WAY: self._one_way,
            Fault.CHURN: self._churn,
            Fault.MOVE: self._move,
            Fault.REVOKE: self._revoke,
        }

    def begin(self) -> None:
        """From now on things go wrong."""
        self._active = True
        self._round += 1
        for kind in Fault:
            if kind in self._swarm.kinds and kind in _STRIKING:
                self._plan(kind)

    def end(self) -> None:
        """Quiet: everything is mended, and who is down stays down or comes back. The first three come back."""
        self._active = False
        for cut in list(self._cuts):
            self._mend(cut)
        for node in list(self._world.nodes.values()):
            self._thaw(node)
            # The other half stays away: somebody has to be held dead.
            gone = not node.running and node.phase is not Phase.LEFT
            if gone and (node.number < 3 or self._rng.random() < 0.5):
                self._world.start(node)

    def _plan(self, kind: Fault) -> None:
        pause = self._rng.uniform(0.0, 2.0 * self._swarm.pause_s[kind])
        self._world.engine.after(pause, self._strike, (kind, self._round))

    def _strike(self, planned: tuple[Fault, int]) -> None:
        kind, in_round = planned
        if self._active and in_round == self._round:
            self.struck[kind] = self.struck.get(kind, 0) + 1
            self._strikes[kind]()
            self._plan(kind)

    def _later(self, first_s: float, last_s: float, act: Callable[[Node], None], node: Node) -> None:
        self._world.engine.after(self._rng.uniform(first_s, last_s), act, node)

    # --- whom -----------------------------------------------------------------------------------------------------

    def _running(self) -> list[Node]:
        return [node for node in self._world.nodes.values() if node.running and not node.port.frozen]

    def _victim(self) -> Node | None:
        running = [node for node in self._running() if not node.lies]
        return self._rng.choice(running) if len(running) > 1 else None

    def _pipe(self) -> Pipe | None:
        node = self._victim()
        pipes = [] if node is None else list(node.port.pipes.values())
        return self._rng.choice(pipes) if pipes else None

    # --- machines and processes -----------------------------------------------------------------------------------

    def _damage(self) -> Damage:
        if Fault.DISK not in self._swarm.kinds:
            return Damage.KEPT
        return self._rng.choice([Damage.KEPT, Damage.TORN, Damage.LOST])

    def _crash(self) -> None:
        self._kill(machine=False)

    def _power(self) -> None:
        self._kill(machine=True)

    def _kill(self, *, machine: bool) -> None:
        node = self._victim()
        if node is not None:
            self._world.crash(node, damage=self._damage(), machine=machine)
            self._later(0.1, 40.0, self._restart, node)

    def _restart(self, node: Node) -> None:
        if self._active and not node.running:
            self._world.start(node)

    def _move(self) -> None:
        node = self._victim()
        if node is not None and node.number >= 3:
            self._world.crash(node, damage=Damage.KEPT)
            self._world.move(node)
            self._later(0.1, 10.0, self._restart, node)

    def _freeze(self) -> None:
        node = self._victim()
        if node is not None:
            self._world.network.freeze(node.port)
            self._later(0.5, 30.0, self._thaw, node)

    def _thaw(self, node: Node) -> None:
        if node.running and node.port.frozen:
            self._world.network.thaw(node.port)

    def _churn(self) -> None:
        running = self._running()
        if self._rng.random() < 0.5 and len(self._world.nodes) < 3 * self._world.founders:
            seeds = [each.address for each in self._rng.sample(running, min(3, len(running)))]
            self._world.start(self._world.add((*seeds, *self._world.seeds()), drift=self._drift()))
            return
        node = self._victim()
        if node is not None and node.number >= 3:
            self._world.leave(node)

    def _drift(self) -> float:
        return DRIFT_MAX if Fault.DRIFT in self._swarm.kinds else 0.0

    def _revoke(self) -> None:
        victim, teller = self._victim(), self._victim()
        if victim is not None and teller is not None and victim is not teller and victim.number >= 3:
            self._world.revoke(victim, at=teller)

    # --- links ----------------------------------------------------------------------------------------------------

    def _stall(self) -> None:
        network, seconds = self._world.network, self._rng.uniform(1.0, 3.0)
        if self._rng.random() < 0.5:
            pipe = self._pipe()
            pipes = [] if pipe is None else [pipe, pipe.twin]
        else:
            node = self._victim()
            pipes = [] if node is None else [each for pipe in node.port.pipes.values() for each in (pipe, pipe.twin)]
        for pipe in pipes:
            network.stall(pipe, seconds)

    def _reset(self) -> None:
        pipe = self._pipe()
        if pipe is not None:
            self._world.network.reset(pipe)

    def _half_open(self) -> None:
        pipe = self._pipe()
        if pipe is not None:
            self._world.network.half_open(pipe)

    def _partition(self) -> None:
        inside, outside = self._sides()
        self._cut(inside, outside)
        self._cut(outside, inside)

    def _one_way(self) -> None:
        inside, outside = self._sides()
        self._cut(inside, outside)

    def _sides(self) -> tuple[list[Node], list[Node]]:
        """Split all nodes: by a size drawn first, each by itself, or one from all others."""
        nodes = list(self._world.nodes.values())
        self._rng.shuffle(nodes)
        match self._rng.randrange(3):
            case 0:
                inside = nodes[: self._rng.randint(1, max(1, len(nodes) - 1))]
            case 1:
                inside = [node for node in nodes if self._rng.random() < 0.5]
            case _:
                inside = nodes[:1]
        chosen = {node.number for node in inside}
        return inside, [node for node in nodes if node.number not in chosen]

    def _cut(self, sources: list[Node], targets: list[Node]) -> None:
        cut = self._world.network.cut([node.node for node in sources], [node.node for node in targets])
        self._cuts[cut] = None
        self._world.engine.after(self._rng.uniform(1.0, 40.0), self._mend, cut)

    def _mend(self, cut: int) -> None:
        self._cuts.pop(cut, None)
        self._world.network.mend(cut)
