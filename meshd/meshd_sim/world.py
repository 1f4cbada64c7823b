"""A whole mesh in one seed: its nodes, their lives, and what they may use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import LIVING, Member
from meshd_node.core.membership.entry import Entry
from meshd_node.core.membership.events import (
    Event,
    Inherited,
    NewsArrived,
    PeerDown,
    PeerUp,
    Population,
    VerifiedClaim,
    VerifiedRevocation,
    VerifiedState,
)
from meshd_node.core.membership.machine import Membership
from meshd_node.core.membership.population import populate
from meshd_node.core.membership.seeds import Seeds
from meshd_protocol.ids import ID_BYTES, NodeId
from meshd_protocol.records import CageLevel, Core, Offer, Phase
from meshd_sim.conditions import Conditions
from meshd_sim.disks import Damage, Disk
from meshd_sim.engine import Engine, no_garbage_collection
from meshd_sim.keys import Keyring
from meshd_sim.membership import MembershipHost, Self, Watch
from meshd_sim.network import Network
from meshd_sim.notary import Notary
from meshd_sim.ports import Port
from meshd_sim.process import Clock, Process

# How long a node that leaves still runs, so that what it said goes round.
_GOODBYE_S: Final = 1.0
# What a node says at its start has been passed on as often as it should be after this.
_TOLD_S: Final = 10.0
_UNTIL_MS: Final = 1 << 50
_RELEASE: Final = "0.1.0"
# So many addresses of others a node remembers for its next start.
_ACQUAINTANCES: Final = 16
# Clocks show anything at the start of a world: nobody may compare two of them.
_CLOCKS_BEGIN_WITHIN_S: Final = 1_000_000.0


class Crowd:
    """Several watches as one."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches

    def published(self, node: NodeId, state: VerifiedState) -> None:
        """A node said something of itself."""
        for watch in self._watches:
            watch.published(node, state)

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""
        for watch in self._watches:
            watch.changed(node, member)

    def claimed(self, claim: VerifiedClaim) -> None:
        """An honest node accuses another."""
        for watch in self._watches:
            watch.claimed(claim)

    def revoked(self, node: NodeId, revocations: list[VerifiedRevocation]) -> None:
        """A node learned of revocations."""
        for watch in self._watches:
            watch.revoked(node, revocations)


@dataclass(slots=True)
class Node:
    """A machine of the mesh, through all lives of its process. `process` and `host` are None while none runs."""

    number: int
    node: NodeId
    name: str
    address: str
    port: Port
    clock: Clock
    seeds: tuple[str, ...]
    disk: Disk = field(default_factory=Disk)
    process: Process | None = None
    host: MembershipHost | None = None
    lives: int = 0
    # What it says of itself, and whether it is one of those that lie.
    phase: Phase = Phase.ALIVE
    lies: bool = False
    revoked: bool = False
    # Whether its disk was ever lost: it may say again what it said.
    forgot: bool = False

    @property
    def running(self) -> bool:
        """Whether a process runs here, frozen or not."""
        return self.process is not None


class World:
    """All nodes on one network. `furnish` puts further machines into each process, before it says who it is."""

    def __init__(
        self,
        seed: int,
        *,
        conditions: Conditions | None = None,
        config: MembershipConfig | None = None,
        watches: Sequence[Watch] = (),
        beside: "World | None" = None,
    ) -> None:
        """With `beside` another mesh on the network, and in the time, of that world."""
        self.engine: Engine = Engine(seed) if beside is None else beside.engine
        self.network: Network = beside.network if beside else Network(self.engine, conditions or Conditions())
        self.config = config or MembershipConfig()
        self.keyring = Keyring(seed)
        self.nodes: dict[NodeId, Node] = {}
        self.founders = 0
        self.furnish: Callable[[Node, Process], None] | None = None
        mesh = "" if beside is None else f"/{seed}"
        self._ids = self.engine.stream("ids" + mesh)
        self._clocks = self.engine.stream("clocks" + mesh)
        self.notary = Notary(self.keyring, NodeId(self._ids.randbytes(20)))
        self.watches = list(watches)
        self._watch = Crowd(self.watches)

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.engine.now

    def name(self, node: NodeId) -> str:
        """What people call a node."""
        known = self.nodes.get(node)
        return "a stranger" if known is None else known.name

    def honest(self) -> list[Node]:
        """All nodes that run and are what they say."""
        return [node for node in self.nodes.values() if node.running and not node.lies and not node.revoked]

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.engine.run(self.engine.now + seconds)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def add(self, seeds: Sequence[str] = (), *, drift: float = 0.0) -> Node:
        """A new machine that joins through these addresses; its clock is up to this share too fast or too slow."""
        number = len(self.network.ports)
        node = NodeId(self._ids.randbytes(20))
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:7423"
        clocks = self._clocks
        clock = Clock(self.engine, clocks.uniform(0.0, _CLOCKS_BEGIN_WITHIN_S), 1.0 + clocks.uniform(-drift, drift))
        port = self.network.attach(node, address)
        self.notary.admit(node)
        one = self.nodes[node] = Node(number, node, f"node{number}", address, port, clock, tuple(seeds))
        return one

    def start(self, node: Node, *, looks_after_s: float = 0.0) -> None:
        """Start a process; its boot epoch is on the disk before anybody hears of it. It tries its seeds then."""
        assert node.process is None, "one process of a node at a time"
        epoch = node.disk.read("epoch")
        epoch = epoch + 1 if isinstance(epoch, int) else 1
        node.disk.write("epoch", epoch)
        node.disk.sync()
        node.lives += 1
        node.phase = Phase.ALIVE
        if not node.port.powered:
            self.network.power_on(node.port)
        node.process = process = Process(node.port, self.engine, node.clock, self.keyring)
        rng = self.engine.stream(f"membership/{node.number}/{node.lives}")
        remembered = node.disk.read("acquaintances")
        seeds = dict.fromkeys((*node.seeds, *(remembered if isinstance(remembered, tuple) else ())))
        machine = Membership(node.node, rng, self.config)
        joining = Seeds(tuple(seeds), rng, self.config)
        node.host = MembershipHost(process, machine, joining, node.disk, self.notary, self._watch)
        if self.furnish is not None:
            self.furnish(node, process)
        node.port.endpoint = process
        who = Self(core=self._core(node), offer=self.offer(), epoch=epoch, looks_after_s=looks_after_s)
        process.enter(partial(node.host.start, who))

    def _core(self, node: Node) -> Core:
        certificates = list(self.notary.certified(node.node).chain)
        return Core(certificates, node.name, [node.address], _RELEASE)

    def offer(self, phase: Phase = Phase.ALIVE) -> Offer:
        """What every node lends."""
        return Offer(phase, 8_000, 16 << 30, [], 8, ["3.11"], "Linux x86_64", 20_000_000, CageLevel.STRICT, True)

    def crash(self, node: Node, *, damage: Damage = Damage.KEPT, machine: bool = False) -> None:
        """End the process, or its whole machine: then nobody is told and nothing answers."""
        assert node.process is not None, "it runs"
        assert node.host is not None, "it runs"
        known = [member.core.addresses for member in node.host.machine.members() if member.state in LIVING]
        node.disk.write("acquaintances", tuple(each[0] for each in known[:_ACQUAINTANCES] if each))
        node.disk.crash(damage)
        node.forgot |= damage is Damage.LOST
        node.process.alive = False
        node.process = node.host = None
        if machine:
            self.network.power_off(node.port)
        else:
            self.network.kill(node.port)

    def move(self, node: Node) -> None:
        """Give a node that does not run another address."""
        assert node.process is None, "a machine moves while nothing runs on it"
        old, node.address = node.address, "10.200." + node.address.split(".", 2)[2]
        self.network.move(node.node, old, node.address)

    def leave(self, node: Node) -> None:
        """Say goodbye, and end a little later."""
        host, process = node.host, node.process
        assert host is not None, "it runs"
        assert process is not None, "it runs"
        node.phase = Phase.LEFT
        process.enter(lambda: host.publish(self.offer(Phase.LEFT)))
        self.engine.after(_GOODBYE_S, self._end_life, (node, process))

    def _end_life(self, ended: tuple[Node, Process]) -> None:
        node, process = ended
        if node.process is process:
            self.crash(node)

    def revoke(self, node: Node, *, at: Node) -> None:
        """Somebody at another node ends this one's membership."""
        host, process = at.host, at.process
        assert host is not None, "it runs"
        assert process is not None, "it runs"
        node.revoked = True
        revocation = self.notary.revoke(node.node, _UNTIL_MS)
        process.enter(lambda: host.revoke([revocation]))

    # --- meshes ---------------------------------------------------------------------------------------------------

    def prepare(self, count: int, *, drift: float = 0.0) -> list[Node]:
        """The machines of a mesh, none of them started; all of them join through the first three."""
        nodes = [self.add(drift=drift) for _ in range(count)]
        self.founders = count
        for node in nodes:
            node.seeds = tuple(address for address in self.seeds() if address != node.address)
        return nodes

    def seeds(self) -> list[str]:
        """The addresses that everybody knows."""
        return [node.address for node in list(self.nodes.values())[:3]]

    def found(self, count: int, *, drift: float = 0.0) -> list[Node]:
        """A mesh that has lived for long: all know all, and nothing that recurs happens to all at once.

        Its nodes have started at any time within one refresh, which passes here while they know nobody. Their sessions
        have still to begin.
        """
        nodes = self.prepare(count, drift=drift)
        ages = self.engine.stream("ages")
        refresh_s = max(self.config.refresh_s, count * self.config.refresh_per_member_s)
        self.config = replace(self.config, refresh_s=refresh_s)
        for node in nodes:
            age_s = ages.uniform(0.0, refresh_s)
            looks_after_s = age_s + ages.uniform(0.0, self.config.dial_last_s)
            self.engine.after(refresh_s - age_s, self._grow_old, (node, looks_after_s + _TOLD_S))
        self.run(refresh_s + _TOLD_S)
        population = populate([self._states_of(node) for node in nodes])
        with no_garbage_collection():
            for node in nodes:
                self._acquaint(node, nodes, population)
        return nodes

    def _acquaint(self, node: Node, nodes: list[Node], population: Population) -> None:
        """Let a node know all the others."""
        assert node.host is not None, "it runs"
        if len(node.host.machine.members()) == 1:
            self._tell_watches(node, nodes)
            self._report(node, Inherited(population))
        else:  # its clock was so fast that it has tried its seeds already
            others = [state for each in nodes if each is not node for state in self._states_of(each)]
            self._report(node, NewsArrived(nodes[0].node, [], [], others, b"", True))

    def _tell_watches(self, node: Node, nodes: list[Node]) -> None:
        """Say what this node is about to see; nothing, if nobody watches: that takes longer than all else."""
        if not self.watches:
            return
        now = node.clock.now()
        for other in nodes:
            if other is not node:
                core, offer = self._states_of(other)
                self._watch.changed(node.node, Entry(core, now, now, offer).member())

    def _grow_old(self, born: tuple[Node, float]) -> None:
        """Start a node, and let it tell what it says of itself to somebody whom nobody else knows."""
        node, looks_after_s = born
        self.start(node, looks_after_s=looks_after_s)
        confidant = NodeId(bytes(ID_BYTES))
        self._report(node, PeerUp(confidant))
        self.engine.after(_TOLD_S, partial(self._report, node), PeerDown(confidant, False))

    def _report(self, node: Node, event: Event) -> None:
        host, process = node.host, node.process
        assert host is not None, "it runs"
        assert process is not None, "it runs"
        process.enter(partial(host.handle, event))

    def _states_of(self, node: Node) -> tuple[VerifiedState, VerifiedState]:
        assert node.host is not None, "it runs"
        core, offer = node.host.own_states()
        return core, offer
