"""What is passed on to peers, in two lanes: what is urgent five times a second, refreshed offers once.

A publisher gives its record whole to some peers. They pass it on by its digest, urgent ones once whole, and whoever
lacks it asks. Load is never told: it rides on the answers to probes.
"""

import math
import random
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from meshd_node.core.allowance import Allowance
from meshd_node.core.membership import digests
from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Effect, Send
from meshd_node.core.membership.events import VerifiedClaim, VerifiedRevocation, VerifiedState
from meshd_node.core.membership.lane import Lane, Rumour
from meshd_node.core.membership.parcel import Parcel, messages
from meshd_node.core.membership.roster import Roster
from meshd_node.core.membership.wants import Wants
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import STATE_DIGESTS_MAX
from meshd_protocol.messages.membership import DIGEST_ENTRY_BYTES, REVOCATION, StateWants, handle_of
from meshd_protocol.records import Slot, Version

_StateKey: TypeAlias = tuple[NodeId, Slot]
_RevocationKey: TypeAlias = tuple[NodeId, str]
_Accuser: TypeAlias = NodeId
_Accused: TypeAlias = NodeId
# The urgent lane may carry so many times more in one message than the other one.
_URGENT_FACTOR: Final = 4
# A claim has 150 bytes: asking for it would cost as much.
_ALWAYS: Final = 1_000_000
_SLOTS: Final = frozenset(Slot)
# What a peer may tell of: 5 ticks a second of all that the urgent lane carries are 1,650. Repair finds what is over.
_DIGESTS_PER_S: Final = 2_048
_DIGESTS_BURST: Final = 8_192
# What is under way at the same time: three refreshes a second for 20 s, and many joins.
_HELD_MAX: Final = 1_024


class Rumours:
    """The lanes of one node."""

    def __init__(self, node: NodeId, rng: random.Random, config: MembershipConfig, roster: Roster) -> None:
        self._node = node
        self._rng = rng
        self._config = config
        self._roster = roster
        self._revocations: Lane[_RevocationKey] = Lane()
        self._claims: Lane[tuple[_Accused, _Accuser]] = Lane()
        self._accusers: dict[_Accused, list[_Accuser]] = {}
        self._urgent: Lane[_StateKey] = Lane()
        self._refreshed: Lane[_StateKey] = Lane()
        self._wants = Wants(config.want_s)
        self._digests = Allowance(_DIGESTS_PER_S, _DIGESTS_BURST)
        # Digests of which nothing is lacking, since so many members were forgotten: each comes again some eight times.
        self._held: set[bytes] = set()
        self._held_since = 0
        self._turn: list[NodeId] = []  # whose turn it is, the next one last
        self._urgent_at = self._tick_at = -math.inf

    # --- what is passed on ----------------------------------------------------------------------------------------

    def state(self, state: VerifiedState, *, urgent: bool, teller: NodeId | None = None) -> None:
        """Pass a state on that was news. This node's own goes whole to several peers."""
        record = state.state
        key = (record.publisher, record.slot)
        lane, other = (self._urgent, self._refreshed) if urgent else (self._refreshed, self._urgent)
        other.drop(key)
        # Of three pushes two reach somebody who has it already, so others push nothing but what is urgent.
        whole = self._config.fanout if record.publisher == self._node else int(urgent)
        lane.put(key, Rumour(state.signed, digests.of_state(record), whole, teller))

    def revocation(self, revocation: VerifiedRevocation, teller: NodeId | None = None) -> None:
        """Pass a revocation on that was news, ahead of all else."""
        record = revocation.revocation
        rumour = Rumour(revocation.signed, digests.of_revocation(revocation), self._config.fanout, teller)
        self._revocations.put((record.node, record.operator), rumour)

    def claim(self, claim: VerifiedClaim, now: float) -> None:
        """Pass a claim on that was news. One for each accuser, and no more accusers than it takes to be believed."""
        accused, accuser = claim.claim.accused, claim.claim.accuser
        accusers = self._accusers.setdefault(accused, [])
        if accuser not in accusers:
            accusers.append(accuser)
            if len(accusers) > max(self._config.claims, self._config.confirmations):
                self._claims.drop((accused, accusers.pop(0)))
        self._claims.put((accused, accuser), Rumour(claim.signed, b"", _ALWAYS, None))

    def refuted(self, node: NodeId) -> None:
        """Pass nothing on any more that was said of a node: it lives, or its end is known."""
        for accuser in self._accusers.pop(node, ()):
            self._claims.drop((node, accuser))

    def silence(self, node: NodeId) -> None:
        """Pass nothing on any more that a node says: it is revoked."""
        for slot in Slot:
            self._urgent.drop((node, slot))
            self._refreshed.drop((node, slot))
        for accused, accusers in self._accusers.items():
            if node in accusers:
                accusers.remove(node)
                self._claims.drop((accused, node))
        self.refuted(node)

    def greet(self, peer: NodeId) -> list[Effect]:
        """Name to a new peer what this node said last: it was told while there was no session, and may be missed."""
        own = self._roster.get(self._node)
        if own is None:
            return []
        parcel = Parcel(peer, self._config.rumour_bytes)
        for held in own.held():
            parcel.add_digests(digests.of_state(held.state))
        return [Send(peer, parcel.message())]

    # --- what others pass on --------------------------------------------------------------------------------------

    def heard(self, sender: NodeId, told: bytes, now: float) -> list[Effect]:
        """Ask for what a neighbour's digests name and this node lacks, unless somebody was just asked."""
        told = told[: DIGEST_ENTRY_BYTES * self._digests.take(sender, len(told) // DIGEST_ENTRY_BYTES, now)]
        if self._held_since != self._roster.forgotten or len(self._held) > _HELD_MAX:
            self._held.clear()
            self._held_since = self._roster.forgotten
        news = [digest for digest in digests.split(told) if digest not in self._held]
        if not news:
            return []
        asked = [handle for handle in self._all_lacking(news) if self._wants.ask(handle, now)][:STATE_DIGESTS_MAX]
        return [Send(sender, StateWants(b"".join(asked)))] if asked else []

    def answered(self, state: VerifiedState) -> bool:
        """Whether this state was asked for since a neighbour's digest named it: then it is a rumour like others."""
        return self._wants.answered(handle_of(state.state.publisher, state.state.slot))

    def _all_lacking(self, told: list[bytes]) -> Iterable[bytes]:
        lacking: dict[bytes, None] = {}
        for digest in told:
            handles = self._lacking(*digests.read_one(digest))
            if handles:
                lacking.update(dict.fromkeys(handles))
            else:
                self._held.add(digest)
        return lacking

    def _lacking(self, prefix: bytes, slot: int, version: Version) -> list[bytes]:
        if slot == REVOCATION:
            known = any(digests.revocation_version(held) == version for held in self._roster.revocations.find(prefix))
            return [] if known else [prefix + bytes([slot])]
        if slot not in _SLOTS:
            return []
        entry = self._roster.shelves.find(prefix)
        if entry is None:
            return [prefix + bytes([each]) for each in Slot]  # nothing of it can be checked without its `core`
        held = entry.slot(slot)
        newer = held is None or held.state.version < version
        return [prefix + bytes([slot])] if newer and not self._roster.revoked(entry.node) else []

    # --- time -----------------------------------------------------------------------------------------------------

    def tick(self, now: float, hearers: Mapping[NodeId, None]) -> list[Effect]:
        """Pass on what is due, to a few of those who can hear it. What nobody can hear waits."""
        if not hearers:
            return []
        targets = self._targets(hearers)
        parcels = [Parcel(target, _URGENT_FACTOR * self._config.rumour_bytes) for target in targets]
        due: list[tuple[Lane[_StateKey] | Lane[_RevocationKey], int]] = []
        if self._hurries() and now >= self._urgent_at:
            self._urgent_at = now + self._config.urgent_tick_s
            spread = self._spread(self._config.spread_factor)
            self._fill_urgent(parcels, spread)
            due += ((self._revocations, spread), (self._urgent, spread))
        if self._refreshed.busy and now >= self._tick_at:
            self._tick_at = now + self._config.tick_s
            for parcel in parcels:
                parcel.room = min(parcel.room, self._config.rumour_bytes)
            spread = self._spread(self._config.refresh_spread_factor)
            self._refreshed.fill(parcels, spread)
            due.append((self._refreshed, spread))
        for lane, spread in due:
            lane.fill_digests(parcels, spread)
        return [
            Send(parcel.target, message) for parcel, message in zip(parcels, messages(parcels), strict=True) if message
        ]

    def next_at(self) -> float:
        """When `tick` has something to pass on."""
        urgent_at = self._urgent_at if self._hurries() else math.inf
        return min(urgent_at, self._tick_at if self._refreshed.busy else math.inf)

    def _fill_urgent(self, parcels: list[Parcel], spread: int) -> None:
        self._revocations.fill(parcels, spread)
        if self._claims.busy:
            self._fill_claims(parcels)
        self._urgent.fill(parcels, spread)
        if not self._claims.busy:
            self._accusers.clear()

    def _fill_claims(self, parcels: list[Parcel]) -> None:
        # Half of the room at most: a storm of accusations must not hold up the states that refute them.
        kept = [parcel.room // 2 for parcel in parcels]
        for parcel, room in zip(parcels, kept, strict=True):
            parcel.room -= room
        # Of one death several tell: it is enough if some of them are heard.
        self._claims.fill(parcels, self._spread(self._config.refresh_spread_factor))
        for parcel, room in zip(parcels, kept, strict=True):
            parcel.room += room

    def _targets(self, hearers: Mapping[NodeId, None]) -> list[NodeId]:
        """The next few, each once before any of them again, in another order each time."""
        targets: dict[NodeId, None] = {}
        wanted = min(self._config.fanout, len(hearers))
        while len(targets) < wanted:
            if not self._turn:
                self._turn = [node for node in hearers if node not in targets]
                self._rng.shuffle(self._turn)
            node = self._turn.pop()
            if node in hearers:
                targets[node] = None
        return list(targets)

    def _hurries(self) -> bool:
        return self._urgent.busy or self._claims.busy or self._revocations.busy

    def _spread(self, factor: int) -> int:
        """How often one rumour is passed on by each node: so often that it reaches nearly all before it dies out."""
        return factor * math.ceil(math.log10(len(self._roster.living()) + 1))
