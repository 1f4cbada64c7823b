"""Members that lie: each keeps the protocol as far as it serves, and does one kind of harm."""

import random
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

import msgspec

from meshd_node.core.membership.suspicion import VERSIONS_AHEAD_MAX
from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import Rumours, SignedClaim, SignedState, States
from meshd_protocol.records import Offer, Phase, Slot, Verdict, Version, encode_record
from meshd_protocol.signing import SIGNATURE_BYTES
from meshd_sim.membership import MEMBERSHIP_MESSAGES
from meshd_sim.notary import Notary
from meshd_sim.process import Process
from meshd_sim.world import Node


class Lie(Enum):
    """What a liar does. Slanderers agree on whom; silent ones answer nobody; deaf ones speak and hear nothing."""

    SLANDER = "slander"
    SILENCE = "silence"
    DEAFNESS = "deafness"
    FORGERY = "forgery"
    EQUIVOCATION = "equivocation"


_TURN_S: Final = 2.0


class Plot:
    """What all liars of a world agree on: of whom they tell lies in which turn."""

    def __init__(self, victims: Sequence[Node], rng: random.Random) -> None:
        self._victims = list(victims)
        self._rng = rng
        self._turns: list[Node] = []

    def victim(self, turn: int) -> Node:
        """The same for all liars."""
        while len(self._turns) <= turn:
            self._turns.append(self._rng.choice(self._victims))
        return self._turns[turn]


class Liar:
    """One liar, beside the membership that gives it its cover."""

    def __init__(self, node: Node, lie: Lie, plot: Plot, notary: Notary) -> None:
        assert node.process is not None, "a liar lives"
        self._node = node
        self._process: Process = node.process
        self._plot = plot
        self._notary = notary
        self._turn = 0
        acts: dict[Lie, Callable[[], None]] = {
            Lie.SLANDER: self._slander,
            Lie.SILENCE: self._nothing,
            Lie.DEAFNESS: self._nothing,
            Lie.FORGERY: self._forge,
            Lie.EQUIVOCATION: self._equivocate,
        }
        self._act = acts[lie]
        if lie is Lie.DEAFNESS:
            self._process.add(_Deaf(), MEMBERSHIP_MESSAGES)
        elif lie is Lie.SILENCE:
            self._process.mute = True
        self._process.after(_TURN_S, self._next)

    def _next(self) -> None:
        self._act()
        self._turn += 1
        self._process.after(_TURN_S, self._next)

    def _nothing(self) -> None:
        """Its harm is in what it does not do."""

    def _tell_all(self, message: Message) -> None:
        for peer in self._process.sessions():
            self._process.send(peer, message)

    def _slander(self) -> None:
        """Say that the victim is dead: in the newest version known here, or in one to come."""
        victim, host = self._plot.victim(self._turn), self._node.host
        member = None if host is None else host.machine.member(victim.node)
        if member is not None:
            ahead = VERSIONS_AHEAD_MAX * (self._turn % 2)
            version = Version(member.version.epoch, member.version.sequence + ahead)
            claims = [self._claim(victim.node, version, verdict) for verdict in Verdict]
            self._tell_all(Rumours([], claims, [], b""))

    def _claim(self, victim: NodeId, version: Version, verdict: Verdict) -> SignedClaim:
        return self._notary.claim_of(self._node.node, victim, version, verdict).signed

    def _forge(self) -> None:
        """Speak in the victim's name, and accuse in its name: nobody may believe it."""
        victim, host = self._plot.victim(self._turn), self._node.host
        member = None if host is None else host.machine.member(victim.node)
        if member is None or member.offer is None:
            return
        newer = Version(member.version.epoch, member.version.sequence + 1_000)
        state = self._notary.state_of(victim.node, newer, msgspec.structs.replace(member.offer, phase=Phase.LEFT))
        forged = SignedState(encode_record(state), bytes(SIGNATURE_BYTES))
        self._tell_all(States([forged], []))
        claim = self._claim(victim.node, newer, Verdict.DEAD)
        self._tell_all(Rumours([], [SignedClaim(claim.body, bytes(SIGNATURE_BYTES))], [], b""))

    def _equivocate(self) -> None:
        """Say two things in one version, to each half of the peers another."""
        host = self._node.host
        if host is None:
            return
        said = next(state for state in host.own_states() if state.state.slot is Slot.OFFER)
        assert isinstance(said.content, Offer), "the offer's slot holds an offer"
        version = Version(said.state.version.epoch, said.state.version.sequence + 1)
        offers = [said.content, msgspec.structs.replace(said.content, cpu_milli=said.content.cpu_milli + 1_000)]
        states = [self._notary.sign_state(self._node.node, version, offer).signed for offer in offers]
        for index, peer in enumerate(self._process.sessions()):
            self._process.send(peer, States([states[index % 2]], []))


class _Deaf:
    """Hears nothing of what others say."""

    def link_up(self, node: NodeId, address: str) -> None:
        """The membership hears of it."""

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        """The membership hears of it."""

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        """The membership hears of it."""

    def message(self, sender: NodeId, message: Message, stream: int) -> None:
        """Nothing."""
