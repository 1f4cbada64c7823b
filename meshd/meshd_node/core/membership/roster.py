"""Who is in the mesh and in what state: every member's newest signed states, and the marks of those who observe it."""

import math
from bisect import bisect_left
from collections.abc import Container, Iterator, Sequence
from typing import Final

from msgspec import Struct

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Drop, Effect, MemberChanged, MemberState
from meshd_node.core.membership.entry import Entry
from meshd_node.core.membership.events import Population, VerifiedRevocation, VerifiedState
from meshd_node.core.membership.hashes import record_hash
from meshd_node.core.membership.revocations import Revocations
from meshd_node.core.membership.shelves import Shelves
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Slot, Version

# Leases are looked at ten times while one lasts: that is how exactly they end.
_SWEEPS_PER_LEASE: Final = 10

_DOUBTED: Final = frozenset({MemberState.SUSPECT, MemberState.DEAD})

# Refreshes come after 0.9 to 1.1 of their time, and travel for some seconds.
_EARLY: Final = 0.75


class News(Struct, frozen=True, gc=False):
    """What an accepted state changed.

    `urgent`: it is a join, a restart, a refutation, another phase, other addresses: anything but a refresh. `newest`:
    no slot of its publisher had a version as new, so it refutes whatever was said of it. `cleared`: its publisher had
    been doubted, or held for dead, and is not any more.
    """

    entry: Entry
    urgent: bool
    newest: bool
    cleared: bool
    effects: list[Effect]


class Roster:
    """One node's view of its mesh, itself included once it has published.

    `moves` are the members that began or ceased to be living ones since somebody last emptied it, in order.
    """

    def __init__(self, node: NodeId, config: MembershipConfig) -> None:
        self._node = node
        self._config = config
        self._living: list[NodeId] = []  # sorted, so that a seed repeats every choice
        self._dead: list[NodeId] = []  # sorted; those that may come back by themselves
        self._tombstones: dict[NodeId, float] = {}  # since when, the oldest first
        self._cut_off: set[NodeId] = set()  # those that are marked as revoked
        self._sweep_at = math.inf
        self._awake_since = -math.inf
        self.shelves = Shelves()
        self.revocations = Revocations()
        self.moves: list[tuple[Entry, bool]] = []
        # How many members were forgotten so far.
        self.forgotten = 0

    # --- what others ask ------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.shelves)

    def get(self, node: NodeId) -> Entry | None:
        """What is held of one member."""
        return self.shelves.get(node)

    def living(self) -> Sequence[NodeId]:
        """All members that are alive, draining or suspect, this node included, in the order of their ids."""
        return self._living

    def dead(self) -> Sequence[NodeId]:
        """All that were declared dead and are remembered, in the order of their ids."""
        return self._dead

    def version(self, node: NodeId, slot: Slot) -> Version | None:
        """Which version of a slot is held."""
        entry = self.shelves.get(node)
        held = None if entry is None else entry.slot(slot)
        return None if held is None else held.state.version

    def revoked(self, node: NodeId) -> bool:
        """Whether this member is cut off. A stranger is not before its certificate names its operator."""
        return node in self._cut_off

    def told(self, entry: Entry, now: float) -> bool:
        """Whether others hear of this member. Who is gone for long is not told of any more, so that all can forget."""
        since = self._tombstones.get(entry.node)
        return since is None or (entry.mark is not MemberState.REVOKED and now - since <= self._config.tombstone_s / 2)

    def refresh_s(self) -> float:
        """How long a node waits before it signs its offer anew."""
        return max(self._config.refresh_s, len(self._living) * self._config.refresh_per_member_s)

    # --- what publishers say --------------------------------------------------------------------------------------

    def accept(self, state: VerifiedState, now: float, *, second_hand: bool = False) -> News | None:
        """Hold a state if it is newer. Of two with one version, which only a liar signs, the first stays.

        `second_hand`: it came by repair, however old it is, and a stranger's lease is half over. Else views could keep
        a node alive for ever that died before any of them was there, each handing it to the next newcomer.
        """
        entry = self.shelves.get(state.state.publisher)
        if entry is None:
            return self._admit(state, now, now - self._lease_s() / 2 if second_hand else now)
        held = entry.slot(state.state.slot)
        version, newest = state.state.version, entry.version
        if entry.mark is MemberState.REVOKED or (held is not None and version <= held.state.version):
            return None
        if self.revocations.get(entry.node, state.certified.operator) is not None:
            return None  # it has another operator's certificate, too, which was what made it a member
        before, living = entry.state, entry.living
        restarted = version.epoch > newest.epoch
        changed = restarted or held is None or held.state.content != state.state.content
        if living:  # so that all that is held is counted before and after
            self._count(held, now)
            self._count(state, now)
        entry.put(state)
        early = False
        if version > newest:
            # Before its time: something happened, be it only that somebody suspects it whom we have not heard.
            early = now - entry.heard_at < _EARLY * self.refresh_s()
            entry.heard_at = now
        if version > entry.marked:
            entry.mark = MemberState.ALIVE
        urgent = early or state.state.slot is Slot.CORE or held is None or restarted or entry.state is not before
        cleared = before in _DOUBTED and entry.living and entry.mark is MemberState.ALIVE
        effects = self._settle(entry, before, living, now, changed=changed)
        return News(entry, urgent, version > newest, cleared, effects)

    def _admit(self, state: VerifiedState, now: float, heard_at: float) -> News | None:
        if state.state.slot is not Slot.CORE or not self._make_room():
            return None
        if self.revocations.get(state.state.publisher, state.certified.operator) is not None:
            return None
        entry = Entry(state, now, heard_at)
        self.shelves.add(entry)
        if math.isinf(self._sweep_at):
            self._sweep_at = now + self._lease_s() / _SWEEPS_PER_LEASE
        return News(entry, True, True, False, self._settle(entry, MemberState.DEAD, False, now, changed=True))

    def inherit(self, population: Population, now: float) -> None:
        """Hold all of these members; this node, the only one so far, stays as it is."""
        assert self._living == [self._node], "it knows only itself"
        self._living = population.living.copy()
        self.shelves.inherit(population, now)

    # --- what its observers say -----------------------------------------------------------------------------------

    def suspect(self, node: NodeId, version: Version, now: float) -> list[Effect]:
        """Doubt that the publisher of this version lives. Nothing happens if a newer one is held."""
        return self._mark(node, MemberState.SUSPECT, version, now)

    def bury(self, node: NodeId, version: Version, now: float) -> list[Effect]:
        """Hold the publisher of this version for dead, until a newer one comes."""
        return self._mark(node, MemberState.DEAD, version, now)

    def _mark(self, node: NodeId, mark: MemberState, version: Version, now: float) -> list[Effect]:
        entry = self.shelves.get(node)
        if entry is None or node == self._node or not entry.living or version < entry.version:
            return []
        before = entry.state
        entry.mark, entry.marked = mark, version
        return self._settle(entry, before, True, now, changed=False)

    # --- what issuers say -----------------------------------------------------------------------------------------

    def revoke(self, revocation: VerifiedRevocation, now: float) -> list[Effect] | None:
        """Hold a revocation and cut its node off; None if it says nothing new."""
        displaced = self.revocations.add(revocation)
        if displaced is None:
            return None
        record = revocation.revocation
        for each in (revocation, *displaced):
            self.shelves.toggle(each.revocation.node, record_hash(each.signed.body), now)
        entry = self.shelves.get(record.node)
        if entry is None:
            return [Drop(record.node)]
        if entry.core.certified.operator != record.operator or entry.mark is MemberState.REVOKED:
            return []
        before, living = entry.state, entry.living
        entry.mark = MemberState.REVOKED
        self._cut_off.add(record.node)
        effects = self._settle(entry, before, living, now, changed=False)
        return effects if entry.node == self._node else [*effects, Drop(entry.node)]

    # --- time -----------------------------------------------------------------------------------------------------

    def tick(self, now: float, connected: Container[NodeId]) -> list[Effect]:
        """Forget whom everybody has forgotten; bury whose lease has run out. A session is as good as a new version."""
        while self._tombstones and next(iter(self._tombstones.values())) + self._config.tombstone_s <= now:
            self._forget(next(iter(self._tombstones)))
        return self._sweep(now, connected) if now >= self._sweep_at else []

    def next_at(self) -> float:
        """When `tick` has something to do."""
        if not self._tombstones:
            return self._sweep_at
        return min(self._sweep_at, next(iter(self._tombstones.values())) + self._config.tombstone_s)

    def _sweep(self, now: float, connected: Container[NodeId]) -> list[Effect]:
        lease = self._lease_s()
        pause = lease / _SWEEPS_PER_LEASE
        if now > self._sweep_at + pause:
            self._awake_since = now  # this process stood still: nobody's silence counts in which it heard nothing
        self._sweep_at = now + pause
        effects: list[Effect] = []
        if self._awake_since + lease > now:
            return effects
        for entry in [entry for entry in self if entry.living and entry.heard_at + lease <= now]:
            if entry.node in connected:
                entry.heard_at = now
            else:
                effects += self.bury(entry.node, entry.version, now)
        return effects

    def _lease_s(self) -> float:
        return self._config.lease_refreshes * self.refresh_s()

    # --- what follows from a change -------------------------------------------------------------------------------

    def _settle(
        self, entry: Entry, before: MemberState, was_living: bool, now: float, *, changed: bool
    ) -> list[Effect]:
        """Bring everything that depends on a member's state up to date, and tell if it changed."""
        state = entry.state
        if state is not before:
            entry.since = now
        if entry.living is not was_living:
            self._move(entry, now)
        _keep(self._dead, entry.node, state is MemberState.DEAD)
        return [MemberChanged(entry.member())] if changed or state is not before else []

    def _move(self, entry: Entry, now: float) -> None:
        node, living = entry.node, entry.living
        for held in entry.held():
            self._count(held, now)
        _keep(self._living, node, living)
        self.moves.append((entry, living))
        if living:
            self._tombstones.pop(node, None)
        elif node != self._node:
            entry.load = None
            self._tombstones[node] = now
            # As many as live: a mesh that is cut in two has to remember its other half.
            if len(self._tombstones) > max(self._config.tombstones_max, len(self._living)):
                self._forget(next(iter(self._tombstones)))

    def _make_room(self) -> bool:
        """Forget who is gone for longest if the view is full. Living members never make room."""
        if len(self.shelves) >= self._config.members_max and self._tombstones:
            self._forget(next(iter(self._tombstones)))
        return len(self.shelves) < self._config.members_max

    def _forget(self, node: NodeId) -> None:
        self.forgotten += 1
        del self._tombstones[node]
        self._cut_off.discard(node)
        _keep(self._dead, node, False)
        self.shelves.remove(node)

    def _count(self, state: VerifiedState | None, now: float) -> None:
        if state is not None:
            self.shelves.toggle(state.state.publisher, state.hash, now)


def _keep(nodes: list[NodeId], node: NodeId, present: bool) -> None:
    """Have a node in a sorted list, or not."""
    index = bisect_left(nodes, node)
    if (index < len(nodes) and nodes[index] == node) is present:
        return
    if present:
        nodes.insert(index, node)
    else:
        del nodes[index]
