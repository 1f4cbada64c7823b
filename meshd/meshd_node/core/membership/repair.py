"""Anti-entropy: what rumours left out is found by comparing hashes with one peer at a time. Spec: 10-membership.md.

`Summary` of everything; if it differs, a hash of each bucket comes back; of those that differ all digests are told, and
whoever has something newer sends it. Half of the rounds go to somebody who is held for dead: nothing else makes one
mesh again of two halves.
"""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final

from meshd_node.core.allowance import Allowance
from meshd_node.core.membership import digests
from meshd_node.core.membership.comparison import compare, tell
from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.disputes import Disputes
from meshd_node.core.membership.effects import Dial, Effect, MemberState, Send
from meshd_node.core.membership.packing import pack
from meshd_node.core.membership.roster import Roster
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import (
    HANDLE_BYTES,
    REVOCATION,
    SUMMARY_BUCKETS_MAX,
    SUMMARY_HASH_BYTES,
    BucketDigests,
    Probe,
    SignedRevocation,
    SignedState,
    StateWants,
    Summary,
)
from meshd_protocol.records import Version

# "I am new": whoever hears it introduces some members.
_NOTHING: Final = bytes(SUMMARY_HASH_BYTES)
# What one comparison makes this node send: 300 members' states. The rest is found by the next one.
_ANSWER_BYTES: Final = 98_304
_WANTS_MAX: Final = 512
# Looking at one member takes 5 us: 16 bytes can ask for it 10,000 times. As if so many bytes were sent, 40 ms a second.
_LOOK_BYTES: Final = 8
# A bucket that has changed within so many ticks of the rumours differs because of news that is still on its way.
_NEWS_TICKS: Final = 8
# Hashes are XORs, which a liar with many nodes could make equal: in every fifth round one of 64 buckets is compared
# digest by digest all the same, so that all of them are in an hour.
_BLIND_EVERY: Final = 5
_BLIND_BUCKETS: Final = 64
# After a split every member hears from some of its peers that others buried it; 16 a comparison reach all in a round.
_DISPUTED_MAX: Final = 16
_DIALS_MAX: Final = 64
# A newcomer whose peer does not answer asks the next one after this.
_PATIENCE_S: Final = 1.0
# A node that is catching up stops after so many comparisons in a row that nobody answered: nobody has more.
_SILENCES_MAX: Final = 2
# How much more often a node looks for the dead while it finds them alive.
_HASTE: Final = 5
# So many strangers in one answer mean that this node knows too few.
_STRANGERS_MIN: Final = 8
# This node and another one.
_PAIR: Final = 2


class Repair:
    """One node's comparisons with others.

    The machine tells it of sessions, of the messages that belong to it and of what came as an answer.
    """

    def __init__(
        self,
        node: NodeId,
        rng: random.Random,
        config: MembershipConfig,
        roster: Roster,
        connected: Mapping[NodeId, None],
    ) -> None:
        self._node = node
        self._rng = rng
        self._config = config
        self._roster = roster
        self._connected = connected
        self._allowance = Allowance()
        self._introduced: set[NodeId] = set()
        self._asked: dict[NodeId, float] = {}  # to whom this node has sent its summary, and when
        # Whom this node dials to compare, and until when.
        self._dialled: dict[NodeId, float] = {}
        self._disputes = Disputes(config.repair_s)
        self._round_at = math.inf
        self._rounds = rng.randrange(_BLIND_EVERY * _BLIND_BUCKETS)
        # A newcomer catches up: it goes from peer to peer without pauses until none of them has more.
        self._silences = 0
        self._waits = False
        self._catch_up_at = math.inf

    # --- sessions -------------------------------------------------------------------------------------------------

    def peer_up(self, node: NodeId, now: float) -> list[Effect]:
        """Compare with whom this node dialled for it, with strangers and those held for dead, and to catch up."""
        effects: list[Effect] = []
        disputed = self._disputes.version(node, now)
        if disputed is not None:
            effects.append(Send(node, Probe(0, disputed)))
        entry = self._roster.get(node)
        meant = self._dialled.pop(node, None) is not None
        catches_up = self._silences < _SILENCES_MAX and not self._waits
        if meant or catches_up or entry is None or not entry.living:
            effects += self._begin(node, now)
        if meant and entry is not None and entry.mark is MemberState.DEAD:
            # The dead live: a split is over. The sooner the next of them is found, the sooner all are.
            self._round_at = min(self._round_at, now + self._config.repair_s / _HASTE)
        if math.isinf(self._round_at):
            self._round_at = now + self._config.repair_s * self._rng.uniform(0.5, 1.0)
        return effects

    def dial_failed(self, node: NodeId, now: float) -> bool:
        """Whether that is evidence: this node takes it for a living one, and several peers say that it is gone."""
        self._dialled.pop(node, None)
        entry = self._roster.get(node)
        return entry is not None and entry.living and self._disputes.confirmed(node, entry.version, now)

    def peer_down(self, node: NodeId) -> None:
        """Forget what belonged to the session."""
        self._asked.pop(node, None)
        self._introduced.discard(node)

    # --- messages -------------------------------------------------------------------------------------------------

    def summary(self, sender: NodeId, hashes: bytes, now: float) -> list[Effect]:
        """Answer one hash by many, and many by the digests of what differs."""
        if len(hashes) > SUMMARY_HASH_BYTES:
            return self._differences(sender, hashes, now)
        if hashes == _NOTHING:
            return self._introduce(sender, now)
        if hashes == self._root():
            return []
        # Of two that begin at the same time the one with the smaller id is answered.
        if self._waits_for(sender, now) and self._node < sender:
            return []
        if self._knows_nobody():
            return self._begin(sender, now)
        if self._allowance.left(sender, now) <= 0:
            return []
        hashes = self._hashes(_buckets(len(self._roster.living())))
        return self._say(sender, Summary(hashes), len(hashes), now)

    def digests(self, sender: NodeId, theirs: BucketDigests, now: float) -> list[Effect]:
        """Send what the sender lacks, ask for what this node lacks, and ask those whose life is disputed."""
        if self._allowance.left(sender, now) <= 0:
            return []
        found = compare(self._roster, theirs)
        self._allowance.spend(sender, _LOOK_BYTES * found.looked_at, now)
        self._rng.shuffle(found.states)  # so that a newcomer hears different things from different peers
        effects = self._send(sender, chain.from_iterable(found.states), found.revocations, now)
        if found.wants:
            effects.append(Send(sender, StateWants(b"".join(found.wants[:_WANTS_MAX]))))
        if len(found.disputed) > _DISPUTED_MAX:
            found.disputed = self._rng.sample(found.disputed, _DISPUTED_MAX)
        for node, version in found.disputed:
            effects += self._dispute(node, version, sender, now)
        return effects

    def wanted(self, sender: NodeId, handles: bytes, now: float) -> list[Effect]:
        """Send what the sender asks for, as much as it may ask for."""
        if self._allowance.left(sender, now) <= 0:
            return []
        self._allowance.spend(sender, _LOOK_BYTES * (len(handles) // HANDLE_BYTES), now)
        states: dict[SignedState, None] = {}
        revocations: dict[SignedRevocation, None] = {}
        for prefix, slot in digests.read_handles(handles):
            if slot == REVOCATION:
                revocations.update((held.signed, None) for held in self._roster.revocations.find(prefix))
            elif (entry := self._roster.shelves.find(prefix)) is not None and entry.mark is not MemberState.REVOKED:
                held = entry.slot(slot)
                if held is not None:
                    states[held.signed] = None
        return self._send(sender, states, revocations, now)

    def answered(self, sender: NodeId, strangers: int, now: float) -> list[Effect]:
        """States came from a peer, so many of them of members unknown before: go on at once while that pays."""
        if strangers >= _STRANGERS_MIN:
            self._silences = 0
        if self._asked.pop(sender, None) is None or self._silences >= _SILENCES_MAX:
            return []
        self._silences, self._waits = 0, False
        # Somebody else next: whoever lets newcomers in has enough to do.
        return self._catch_up(now, [node for node in self._connected if node != sender])

    # --- time -----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Begin the comparisons that are due."""
        effects: list[Effect] = []
        if now >= self._catch_up_at:
            self._silences += self._waits
            self._waits = False
            self._catch_up_at = math.inf
            if self._silences < _SILENCES_MAX:
                effects += self._catch_up(now, list(self._connected))
        if now >= self._round_at:
            self._round_at = now + self._config.repair_s * self._rng.uniform(0.9, 1.1)
            self._rounds += 1
            effects += self._round(now)
        return effects

    def next_at(self) -> float:
        """When `tick` has something to do."""
        return min(self._round_at, self._catch_up_at)

    def _round(self, now: float) -> list[Effect]:
        self._dialled = {node: until for node, until in self._dialled.items() if until > now}
        self._disputes.prune(now)
        if self._rounds % _BLIND_EVERY == 0 and self._connected:
            bucket = self._rounds // _BLIND_EVERY % _BLIND_BUCKETS
            told = tell(self._roster, _BLIND_BUCKETS, [bucket], now)
            peer = self._rng.choice(list(self._connected))
            return [] if told is None else self._say(peer, told, len(told.digests), now)
        partner = self._choose(now)
        if partner is None:
            return []
        return self._begin(partner, now) if partner in self._connected else self._dial(partner, now, self._dialled)

    def _choose(self, now: float) -> NodeId | None:
        """Somebody to compare with: of those held for dead in half of the rounds, else of those who live."""
        dead, living = self._roster.dead(), self._roster.living()
        if dead and (len(living) < _PAIR or self._rng.random() < 1 / 2):
            entry = self._roster.get(self._rng.choice(dead))
            if entry is not None and entry.addresses and self._roster.told(entry, now):
                return entry.node
        if len(living) < _PAIR:
            return None
        index = self._rng.randrange(len(living) - 1)
        partner = living[index] if living[index] != self._node else living[-1]
        entry = self._roster.get(partner)
        if partner in self._connected or (entry is not None and entry.addresses):
            return partner
        return self._rng.choice(list(self._connected)) if self._connected else None

    def _catch_up(self, now: float, peers: Sequence[NodeId]) -> list[Effect]:
        self._catch_up_at = now + _PATIENCE_S
        free = [node for node in peers if not self._waits_for(node, now)]
        return self._begin(self._rng.choice(free), now) if free else []

    # --- one comparison -------------------------------------------------------------------------------------------

    def _begin(self, peer: NodeId, now: float) -> list[Effect]:
        if self._waits_for(peer, now):
            return []
        self._asked[peer] = now
        if self._silences < _SILENCES_MAX:
            self._waits, self._catch_up_at = True, now + _PATIENCE_S
        return [Send(peer, Summary(_NOTHING if self._knows_nobody() else self._root()))]

    def _differences(self, sender: NodeId, hashes: bytes, now: float) -> list[Effect]:
        if sender not in self._asked:
            return []
        size, of = SUMMARY_HASH_BYTES, len(hashes) // SUMMARY_HASH_BYTES
        mine = self._hashes(of)
        differing = [
            bucket
            for bucket in range(of)
            if mine[bucket * size : (bucket + 1) * size] != hashes[bucket * size : (bucket + 1) * size]
        ]
        if len(differing) < of / 2 and self._silences >= _SILENCES_MAX:
            quiet_since = now - _NEWS_TICKS * self._config.tick_s
            differing = [bucket for bucket in differing if self._roster.shelves.settled(of, bucket, quiet_since)]
        self._rng.shuffle(differing)
        told = tell(self._roster, of, differing, now)
        return [] if told is None else self._say(sender, told, len(told.digests), now)

    def _introduce(self, newcomer: NodeId, now: float) -> list[Effect]:
        """Hand some members to somebody who knows nobody, once in a session, this node among them."""
        if newcomer in self._introduced:
            return []
        self._introduced.add(newcomer)
        living = self._roster.living()
        chosen = self._rng.sample(living, min(len(living), self._config.introductions))
        entries = [self._roster.get(node) for node in dict.fromkeys((self._node, *chosen)) if node != newcomer]
        states = [held.signed for entry in entries if entry is not None for held in entry.held()]
        return self._send(newcomer, states, (), now)

    def _dispute(self, node: NodeId, version: Version, sayer: NodeId, now: float) -> list[Effect]:
        """Tell a member that this version of it is held for dead, so that it publishes a newer one if it lives."""
        if not self._disputes.add(node, version, sayer, now):
            return []
        if node in self._connected:
            return [Send(node, Probe(0, version))]
        return self._dial(node, now, {})

    def _dial(self, node: NodeId, now: float, meant: dict[NodeId, float]) -> list[Effect]:
        entry = self._roster.get(node)
        if entry is None or not entry.addresses or len(self._dialled) >= _DIALS_MAX:
            return []
        meant[node] = now + self._config.repair_s
        return [Dial(node, entry.addresses)]

    # --- what leaves ----------------------------------------------------------------------------------------------

    def _say(self, peer: NodeId, message: Summary | BucketDigests, size: int, now: float) -> list[Effect]:
        """Answer, if this peer has not made us say too much already."""
        if self._allowance.left(peer, now) < size:
            return []
        self._allowance.spend(peer, size, now)
        return [Send(peer, message)]

    def _send(
        self, peer: NodeId, states: Iterable[SignedState], revocations: Iterable[SignedRevocation], now: float
    ) -> list[Effect]:
        """Send so much of this as the peer may ask for, in messages that stay on the control connection."""
        left = min(_ANSWER_BYTES, self._allowance.left(peer, now))
        if left <= 0:
            return []
        messages, size = pack(states, revocations, left)
        self._allowance.spend(peer, size, now)
        return [Send(peer, message) for message in messages]

    # --- what there is --------------------------------------------------------------------------------------------

    def _waits_for(self, peer: NodeId, now: float) -> bool:
        return self._asked.get(peer, -math.inf) + _PATIENCE_S > now

    def _knows_nobody(self) -> bool:
        return len(self._roster.shelves) <= 1

    def _root(self) -> bytes:
        return self._roster.shelves.root.to_bytes(SUMMARY_HASH_BYTES, "big")

    def _hashes(self, of: int) -> bytes:
        return b"".join([value.to_bytes(SUMMARY_HASH_BYTES, "big") for value in self._roster.shelves.hashes(of)])


def _buckets(members: int) -> int:
    """So many that their hashes and the digests of a few of them take about as much: 4 sqrt(n), a power of two."""
    return min(SUMMARY_BUCKETS_MAX, 1 << math.ceil(math.log2(4 * math.sqrt(max(members, 1)))))
