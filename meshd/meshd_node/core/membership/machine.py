"""Membership as a plain exchange: every node holds every member's newest signed states and a session with each.

Right and bounded, but a full mesh of connections; what is inside this interface changes with larger meshes.
"""

import math
import random
from collections.abc import Iterable
from typing import assert_never

from meshd_node.core.membership import exchange
from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.deadlines import Deadlines
from meshd_node.core.membership.dialer import Dialer
from meshd_node.core.membership.effects import Dial, Effect, Member, MemberChanged, MemberState, Send, Wake
from meshd_node.core.membership.entry import Entry
from meshd_node.core.membership.events import (
    DialFailed,
    DigestsArrived,
    Event,
    PeerDown,
    PeerUp,
    Published,
    StatesArrived,
    Tick,
    VerifiedState,
    WantsArrived,
)
from meshd_node.core.membership.exchange import UNASKED_STATES_MAX, Key, Window
from meshd_node.core.membership.liveness import Liveness
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.peer import StateDigest
from meshd_protocol.records import Slot, Version

_GONE = (MemberState.DEAD, MemberState.LEFT)


class Membership:
    """One node's view of its mesh, itself included once it has published."""

    def __init__(self, node: NodeId, rng: random.Random, config: MembershipConfig) -> None:
        self._node = node
        self._rng = rng
        self._config = config
        self._entries: dict[NodeId, Entry] = {}
        self._connected: dict[NodeId, None] = {}  # in order of arrival, so that a seed repeats every choice
        self._dialer = Dialer(rng, config)
        self._changes = Deadlines()
        self._tombstones: dict[NodeId, float] = {}  # since when, the oldest first
        self._exchange_at = math.inf
        self._wake_at = math.inf

    def members(self) -> list[Member]:
        """Every member that this node knows of, dead and left ones included while they are remembered."""
        return [entry.said for entry in self._entries.values() if entry.said is not None]

    def member(self, node: NodeId) -> Member | None:
        """One of them."""
        entry = self._entries.get(node)
        return None if entry is None else entry.said

    def version(self, node: NodeId, slot: Slot) -> Version | None:
        """The version that is held of one slot; what is not newer need not be checked."""
        held = self._held((node, slot))
        return None if held is None else held.state.version

    def refresh_s(self) -> float:
        """How often this node should publish its offer anew, and may expect others to."""
        living = len(self._entries) - len(self._tombstones)
        return max(self._config.refresh_s, living * self._config.refresh_per_member_s)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Apply one event; return what the shell must do, in order."""
        match event:
            case PeerUp(node):
                effects = self._peer_up(node, now)
            case PeerDown(node, refused):
                effects = self._peer_down(node, now, refused=refused)
            case DialFailed(node, refused):
                effects = self._dial_failed(node, now, refused=refused)
            case DigestsArrived(sender, digests):
                effects = self._compare(sender, digests, now)
            case WantsArrived(sender, wants):
                effects = self._answer(sender, wants)
            case StatesArrived(sender, states):
                effects = self._learn(sender, states, now)
            case Published(state):
                effects = self._publish(state, now)
            case Tick():
                effects = self._tick(now)
            case _:
                assert_never(event)
        return [*effects, *self._dials(now), *self._next_wake()]

    # --- sessions -------------------------------------------------------------------------------------------------

    def _peer_up(self, node: NodeId, now: float) -> list[Effect]:
        if not self._connected:
            self._exchange_at = now + self._config.exchange_s * self._rng.uniform(0.5, 1.0)
        self._connected[node] = None
        self._dialer.settled(node)
        effects: list[Effect] = [Send(node, digests) for digests in exchange.windows(self._offered(now))]
        entry = self._entries.get(node)
        if entry is not None:
            entry.liveness.session_began()
            effects += self._say(entry, now)
        return effects

    def _peer_down(self, node: NodeId, now: float, *, refused: bool) -> list[Effect]:
        if self._connected.pop(node, self) is self:
            return []
        if not self._connected:
            self._exchange_at = math.inf
        entry = self._entries.get(node)
        if entry is None:
            return []
        entry.liveness.session_ended(now, refused=refused)
        self._want_dial(entry, now)
        return self._say(entry, now)

    def _dial_failed(self, node: NodeId, now: float, *, refused: bool) -> list[Effect]:
        self._dialer.failed(node, now)
        entry = self._entries.get(node)
        if entry is None:
            return []
        entry.liveness.dial_failed(now, refused=refused)
        return self._say(entry, now)

    def _want_dial(self, entry: Entry, now: float) -> None:
        if entry.node in self._connected or entry.node == self._node:
            return
        if not entry.addresses:
            # It can only come to us: from now on it has to be heard of, as one that we dial in vain.
            entry.liveness.missed = True
            self._dialer.drop(entry.node)
        elif entry.state(now) is not MemberState.LEFT:
            courtesy_s = 0.0 if self._node < entry.node else self._config.courtesy_s
            self._dialer.want(entry.node, now + courtesy_s)

    # --- the exchange of states -----------------------------------------------------------------------------------

    def _offered(self, now: float) -> dict[Key, Version]:
        """What we tell others that we hold. Who is gone for long is not told of any more, so that all can forget."""
        stale = {node for node, since in self._tombstones.items() if now - since > self._config.tombstone_s / 2}
        return {
            (node, held.state.slot): held.state.version
            for node, entry in self._entries.items()
            if node not in stale
            for held in entry.held()
        }

    def _compare(self, sender: NodeId, digests: list[StateDigest], now: float) -> list[Effect]:
        window, offered = Window.of(digests), self._offered(now)
        wanted = [key for key, version in window.versions.items() if self._lacks(key, version)]
        newer = [key for key, version in offered.items() if window.lacks(key, version)]
        newer.sort(key=lambda key: key[1])  # certificates first
        return [*self._send(sender, newer[:UNASKED_STATES_MAX]), *(Send(sender, w) for w in exchange.want(wanted))]

    def _lacks(self, key: Key, version: Version) -> bool:
        held = self._held(key)
        return held is None or held.state.version < version

    def _answer(self, sender: NodeId, wants: list[tuple[NodeId, Slot]]) -> list[Effect]:
        return self._send(sender, dict.fromkeys(wants))

    def _learn(self, sender: NodeId, states: list[VerifiedState], now: float) -> list[Effect]:
        news: list[VerifiedState] = []
        touched: dict[NodeId, Entry] = {}
        for state in states:
            if state.state.publisher != self._node and (entry := self._accept(state, now)) is not None:
                news.append(state)
                touched[entry.node] = entry
        effects = [effect for entry in touched.values() for effect in self._say(entry, now)]
        others = [node for node in self._connected if node != sender]
        relays = self._rng.sample(others, min(len(others), self._config.relays_max))
        return [*effects, *self._spread(relays, news)]

    def _publish(self, state: VerifiedState, now: float) -> list[Effect]:
        assert state.state.publisher == self._node, "another node's state is not ours to publish"
        entry = self._accept(state, now)
        assert entry is not None, "a node's own versions rise, and its core comes before its offer"
        return [*self._say(entry, now), *self._spread(self._connected, [state])]

    def _send(self, node: NodeId, keys: Iterable[Key]) -> list[Effect]:
        held = [state for key in keys if (state := self._held(key)) is not None]
        return self._spread([node], held)

    def _spread(self, nodes: Iterable[NodeId], states: list[VerifiedState]) -> list[Effect]:
        messages = exchange.send([state.signed for state in states])
        return [Send(node, message) for node in nodes for message in messages]

    def _held(self, key: Key) -> VerifiedState | None:
        node, slot = key
        entry = self._entries.get(node)
        return None if entry is None else entry.slot(slot)

    # --- entries --------------------------------------------------------------------------------------------------

    def _accept(self, state: VerifiedState, now: float) -> Entry | None:
        """Hold a state if it says anything new; return whose entry it changed."""
        entry = self._entries.get(NodeId(state.state.publisher))
        if entry is None:
            return self._admit(state, now)
        epoch, addresses = entry.version.epoch, entry.addresses
        if not entry.accept(state):
            return None
        entry.liveness.vouch(now, self._config.lease_refreshes * self.refresh_s())
        if state.state.version.epoch > epoch or entry.addresses != addresses:
            self._want_dial(entry, now)
        return entry

    def _admit(self, state: VerifiedState, now: float) -> Entry | None:
        if state.state.slot is not Slot.CORE or not self._make_room():
            return None
        entry = Entry(state, Liveness(self._config))
        self._entries[entry.node] = entry
        if entry.node == self._node or entry.node in self._connected:
            entry.liveness.session_began()
        elif not entry.addresses:
            entry.liveness.vouch(now, self._config.lease_refreshes * self.refresh_s())
        self._want_dial(entry, now)
        return entry

    def _make_room(self) -> bool:
        """Forget who is gone for longest if the view is full. Living members never make room."""
        if len(self._entries) >= self._config.members_max and self._tombstones:
            self._forget(next(iter(self._tombstones)))
        return len(self._entries) < self._config.members_max

    def _say(self, entry: Entry, now: float) -> list[Effect]:
        """Bring everything that depends on a member's state up to date, and tell if it changed."""
        if self._entries.get(entry.node) is not entry:
            return []  # made room for another one of the same batch
        member, changed = entry.say(now)
        self._changes.set(entry.node, entry.liveness.next_change(now))
        if member.state not in _GONE:
            self._tombstones.pop(entry.node, None)
        elif entry.node not in self._tombstones and entry.node != self._node:
            self._tombstones[entry.node] = now
        if member.state is MemberState.LEFT:
            self._dialer.drop(entry.node)
        if len(self._tombstones) > self._config.tombstones_max:
            self._forget(next(iter(self._tombstones)))
        return [MemberChanged(member)] if changed else []

    def _forget(self, node: NodeId) -> None:
        del self._tombstones[node], self._entries[node]
        self._changes.set(node, math.inf)
        self._dialer.drop(node)

    # --- time -----------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> list[Effect]:
        self._wake_at = math.inf
        effects: list[Effect] = []
        for node in self._changes.pop_due(now):
            if (entry := self._entries.get(node)) is not None:  # an earlier one's tombstone may have pushed it out
                effects += self._say(entry, now)
        for node in [node for node, since in self._tombstones.items() if since + self._config.tombstone_s <= now]:
            self._forget(node)
        if now >= self._exchange_at and self._connected:
            self._exchange_at = now + self._config.exchange_s
            peer = self._rng.choice(list(self._connected))
            effects.append(Send(peer, self._rng.choice(exchange.windows(self._offered(now)))))
        return effects

    def _dials(self, now: float) -> list[Effect]:
        return [Dial(node, self._entries[node].addresses) for node in self._dialer.start(now)]

    def _next_wake(self) -> list[Effect]:
        oldest = next(iter(self._tombstones.values()), math.inf)
        forget_at = oldest + self._config.tombstone_s
        at = min(self._changes.next(), self._dialer.next_at(), self._exchange_at, forget_at)
        if at == self._wake_at or math.isinf(at):
            return []
        self._wake_at = at
        return [Wake(at)]
