"""This node's probes, one a period, and those that it makes for others."""

import math
import random
from collections.abc import Callable, Iterable
from typing import Final

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Effect, Send
from meshd_node.core.membership.errands import Errand, Errands
from meshd_node.core.membership.health import Health
from meshd_node.core.membership.neighbours import Neighbours
from meshd_node.core.membership.probes import Flight, Round
from meshd_node.core.membership.rings import Rings
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.membership import Probe, ProbeAck, ProbeReport, ProbeRequest
from meshd_protocol.records import U32_MAX, Version

# Of the time that an asker has left: a report must be there before it judges.
_ERRAND_SHARE: Final = 0.8


class Prober:
    """Whom to probe when, and through whom. What silence means is not decided here.

    `doubted` names the version that a probe of a suspect carries, so that the suspect hears of it (Lifeguard's buddy).
    """

    def __init__(
        self,
        rng: random.Random,
        config: MembershipConfig,
        rings: Rings,
        neighbours: Neighbours,
        doubted: Callable[[NodeId], Version | None],
    ) -> None:
        self._rng = rng
        self._config = config
        self._rings = rings
        self._neighbours = neighbours
        self._doubted = doubted
        self._round = Round(rng)
        self._errands = Errands(config.errands_max)
        self._flight: Flight | None = None
        self._period_at = math.inf
        self._sequence = rng.getrandbits(32)
        self._sent: dict[NodeId, int] = {}  # the sequence of the last probe to each whom we probe
        self.health = Health(config.health_max)

    def observes(self, node: NodeId) -> bool:
        """Whether this node probes that one, and so may accuse it."""
        return node in self._round

    def aim(self, subjects: Iterable[NodeId], now: float) -> None:
        """Probe these from now on. The first period begins at any time of it, so that nodes keep no common step."""
        self._round.aim(subjects)
        self._sent = {node: sequence for node, sequence in self._sent.items() if node in self._round}
        if self._period_at == math.inf and len(self._round):
            self._period_at = now + self._rng.random() * self._config.probe_s

    def hurry(self, node: NodeId) -> None:
        """Probe this one next, if it is ours to probe: somebody doubts that it lives."""
        self._round.hurry(node)

    def give_up(self, node: NodeId | None = None) -> None:
        """Find out nothing more about this member in this period, or about whoever it is."""
        if self._flight is not None and node in (None, self._flight.target):
            self._neighbours.release(sorted(self._flight.coming))
            self._flight = None

    def peer_up(self, node: NodeId) -> list[Effect]:
        """A session has begun, with the target itself or with somebody dialled for help."""
        flight = self._flight
        if flight is None or flight.reached:
            return []
        if node == flight.target:
            flight.reached = True
        elif node in flight.coming:
            return [self._ask(flight, node)]
        return []

    def probe(self, node: NodeId) -> Effect:
        """Probe a peer out of turn."""
        return Send(node, Probe(self._next_sequence(), self._doubted(node)))

    # --- time -----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Ask for help where the target has not answered, report to those whose target has not."""
        effects: list[Effect] = [
            Send(errand.asker, ProbeReport(errand.sequence, False)) for errand in self._errands.pop_due(now)
        ]
        flight = self._flight
        if flight is not None and not flight.reached and not flight.helped and now >= flight.late_at:
            effects += self._seek_help(flight, now)
        return effects

    def is_over(self, now: float) -> bool:
        """Whether the period has ended: `end` it, then `begin` the next."""
        return now >= self._period_at

    def end(self) -> NodeId | None:
        """The target of this period, if neither it nor anybody who asked it has answered."""
        flight, self._flight = self._flight, None
        if flight is None:
            return None
        self._neighbours.release(sorted(flight.coming))
        if flight.reached:
            self.health.answered()
            return None
        self.health.missed(len(flight.asked) if flight.helpers else 1)
        # Whom we ceased to observe is not doubted: nobody would believe us, so the accused would never hear of it.
        return flight.target if flight.target in self._round else None

    def begin(self, now: float) -> list[Effect]:
        """Probe the next one, through others if there is no session with it."""
        target = self._next_target()
        if target is None:
            self._period_at = now + self._config.probe_s if len(self._round) else math.inf
            return []
        patience, sequence = self.health.patience, self._next_sequence()
        self._period_at = now + self._config.probe_s * patience
        late_at = now + self._config.probe_timeout_s * patience
        flight = self._flight = Flight(target, sequence, late_at, self._period_at)
        if target not in self._neighbours.connected:
            return self._seek_help(flight, now)
        self._sent[target] = sequence
        return [Send(target, Probe(sequence, self._doubted(target)))]

    def next_at(self) -> float:
        """When `tick` or the end of the period comes."""
        at, flight = self._period_at, self._flight
        if flight is not None and (soon := flight.next_at()) < at:
            at = soon
        return min(at, self._errands.next_at()) if self._errands else at

    # --- what others say ------------------------------------------------------------------------------------------

    def acknowledged(self, sender: NodeId, ack: ProbeAck) -> bool:
        """Whether this answers our last probe of the sender, in time or not."""
        if self._sent.get(sender) != ack.sequence:
            return False
        if self._flight is not None and self._flight.sequence == ack.sequence:
            self._flight.reached = True
        return True

    def reported(self, sender: NodeId, report: ProbeReport) -> None:
        """A helper has done its part."""
        flight = self._flight
        if flight is not None and flight.sequence == report.sequence and sender in flight.asked:
            flight.asked.discard(sender)
            flight.reached |= report.reached

    def help(self, sender: NodeId, request: ProbeRequest, now: float) -> list[Effect]:
        """Probe somebody for a peer; tell it at once where there is no way to, or where it asks too much."""
        target, sequence = request.target, self._next_sequence()
        until = now + _ERRAND_SHARE * self._config.probe_timeout_s
        errand = Errand(sender, request.sequence, target, until)
        if target not in self._neighbours.connected or not self._errands.take(errand, sequence):
            return [Send(sender, ProbeReport(request.sequence, False))]
        return [Send(target, Probe(sequence, self._doubted(target)))]

    def helped(self, sender: NodeId, ack: ProbeAck) -> list[Effect]:
        """Pass on what answers a probe that we made for a peer."""
        errand = self._errands.done(ack.sequence, sender)
        return [] if errand is None else [Send(errand.asker, ProbeReport(errand.sequence, True))]

    # --- whom -----------------------------------------------------------------------------------------------------

    def _next_target(self) -> NodeId | None:
        """The next one of whom there is something to find out: not of those whom we have not tried to reach yet."""
        for _ in range(len(self._round)):
            target = self._round.next()
            if target is not None and (target in self._neighbours.connected or self._neighbours.silent(target)):
                return target
        return None

    def _seek_help(self, flight: Flight, now: float) -> list[Effect]:
        """Ask those who have a session with the target, its own neighbours; dial some where we are near too few."""
        flight.helped = True
        near = dict.fromkeys((*self._rings.observers(flight.target), *self._rings.subjects(flight.target)))
        near.pop(self._rings.node, None)
        linked = [node for node in near if node in self._neighbours.connected and node != flight.target]
        helpers = self._rng.sample(linked, min(len(linked), self._config.indirect))
        lacking = self._config.indirect - len(helpers)
        if lacking:
            others = [node for node in near if node not in self._neighbours.connected and node != flight.target]
            for node in self._rng.sample(others, min(len(others), lacking)):
                flight.coming.add(node)
                self._neighbours.borrow(node, now)
        return [self._ask(flight, node) for node in helpers]

    def _ask(self, flight: Flight, helper: NodeId) -> Effect:
        flight.coming.discard(helper)
        flight.asked.add(helper)
        flight.helpers += 1
        return Send(helper, ProbeRequest(flight.sequence, flight.target))

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & U32_MAX
        return self._sequence
