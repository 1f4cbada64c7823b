"""One run: a mesh grows, some nodes turn hostile, records are published, some nodes die, and the others look."""

from dataclasses import dataclass, field
from typing import Final

from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.directory.effects import LookupEnded
from meshd_node.core.directory.events import ContactSeen, LookUpNodes, LookUpRecords, PublishRecord
from meshd_protocol.ids import ID_BYTES, Key
from meshd_protocol.records import DirectoryKind
from meshd_sim.directory.mischief import ALL
from meshd_sim.directory.world import Host, Mischief, World, nearest

# A node joins through so many that are there already, and the next one comes so much later.
_SEEDS: Final = 3
_JOIN_EVERY_S: Final = 0.05
# Everybody has looked around and published by then: settle_s, twice, and the time that it takes.
_SETTLED_S: Final = 120.0
_BETWEEN_S: Final = 0.05
_LAST_WORDS_S: Final = 15.0
_VALUE: Final = b"value %d of node %d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens. `kill` and `hostile` are shares of all nodes; `mischief` is what the hostile ones do, in turn."""

    nodes: int
    seed: int = 0
    kill: float = 0.0
    hostile: float = 0.0
    mischief: tuple[Mischief, ...] = ALL
    operations: int = 300
    records: int = 100
    # The mesh of a run is there at once, and waits for nothing else.
    config: DirectoryConfig = field(default_factory=lambda: DirectoryConfig(settle_s=15.0))


@dataclass(slots=True)
class Tally:
    """What came of the operations of one sort."""

    name: str
    asked: int = 0
    right: int = 0
    outdated: int = 0
    wrong: int = 0
    hops: list[int] = field(default_factory=list)
    questions: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, ended: LookupEnded) -> None:
        """Count what it cost."""
        self.hops.append(ended.hops)
        self.questions.append(ended.questions)
        self.seconds.append(ended.seconds)


class Run:
    """A world and what is tried in it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = World(plan.seed, plan.config)
        self.chance = self.world.engine.stream("plan")
        self._publishers: list[Host] = []
        self._searches = 0

    def prepare(self) -> None:
        """Let the mesh grow, turn some of it, publish, and kill."""
        for _ in range(self.plan.nodes):
            self._join()
        self._pass(_SETTLED_S)
        hosts = self.world.hosts
        for number, host in enumerate(self.chance.sample(hosts, int(self.plan.hostile * len(hosts)))):
            host.mischief = self.plan.mischief[number % len(self.plan.mischief)]
        honest = [host for host in hosts if host.mischief is None]
        self._publishers = self.chance.sample(honest, min(self.plan.records, len(honest)))
        for version in (1, 2):
            for host in self._publishers:
                value = _VALUE % (version, host.number)
                host.feed(PublishRecord(DirectoryKind.CONTACT, host.node, value))
            self._pass(_SETTLED_S)
        self.world.kill(self.chance.sample(hosts, int(self.plan.kill * len(hosts))))

    def lookups(self) -> Tally:
        """Look for the nodes nearest to random places: right is who found the very nearest that lives and is honest."""
        tally = Tally("lookup")
        asked = [(host, self._next(), Key(self.chance.randbytes(ID_BYTES))) for host in self._askers()]
        for host, search, place in asked:
            host.feed(LookUpNodes(search, place))
            self._pass(_BETWEEN_S)
        self._pass(_LAST_WORDS_S)
        for host, search, place in asked:
            ended = self._ended(tally, host, search)
            best = nearest([other for other in self._honest() if other is not host], place, 1)[0]
            tally.right += any(contact.node == best.node for contact in ended.contacts)
        return tally

    def gets(self, *, thorough: bool) -> Tally:
        """Look for contact records: right is their newest value, wrong is one that their publisher never published."""
        tally = Tally("get, thorough" if thorough else "get")
        asked = [(host, self._next(), self.chance.choice(self._publishers)) for host in self._askers()]
        for host, search, publisher in asked:
            host.feed(LookUpRecords(search, DirectoryKind.CONTACT, publisher.node, thorough))
            self._pass(_BETWEEN_S)
        self._pass(_LAST_WORDS_S)
        for host, search, publisher in asked:
            ended = self._ended(tally, host, search)
            values = [each.record.value for each in ended.records if each.record.publisher == publisher.node]
            outdated, newest = (_VALUE % (version, publisher.number) for version in (1, 2))
            tally.right += values == [newest]
            tally.outdated += values == [outdated]
            tally.wrong += any(value not in (outdated, newest) for value in values)
        return tally

    # --- inside ---------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        there = list(self.world.hosts)
        host = self.world.add()
        for seed in self.chance.sample(there, min(_SEEDS, len(there))):
            host.feed(ContactSeen(seed.contact))
            seed.feed(ContactSeen(host.contact))
        self._pass(_JOIN_EVERY_S)

    def _pass(self, seconds: float) -> None:
        self.world.engine.run(self.world.engine.now + seconds)

    def _honest(self) -> list[Host]:
        return [host for host in self.world.hosts if host.alive and host.mischief is None]

    def _askers(self) -> list[Host]:
        return self.chance.choices(self._honest(), k=self.plan.operations)

    def _next(self) -> int:
        self._searches += 1
        return self._searches

    def _ended(self, tally: Tally, host: Host, search: int) -> LookupEnded:
        assert search in host.ended, f"a search without an end; repeat with seed={self.plan.seed}"
        tally.asked += 1
        tally.add(host.ended[search])
        return host.ended[search]
