"""The network between simulated nodes: sessions as TLS has them, and everything that happens to them.

Sessions begin by dials, carry batches in order, and end by a close, a reset or a silence. A cut is what a firewall or a
broken line makes of it: what was sent waits for a retransmission, and both sides end what stays silent for too long.
"""

from collections.abc import Collection
from typing import Final

from meshd_protocol.ids import NodeId
from meshd_sim.conditions import KEEP_ALIVE_S, Conditions, Model
from meshd_sim.engine import Engine
from meshd_sim.parcels import Parcel, Traffic
from meshd_sim.pipes import END, HELLO, Pipe, pair
from meshd_sim.ports import Dial, Port
from meshd_sim.trace import Trace

# TCP tries again after pauses that double: what a cut held back comes at most as late again as the cut was long, and
# no cut that a session outlives is longer than this.
_RETRANSMISSION_S: Final = 15.0


class Network:
    """All ports, the sessions between them, and the cuts in force."""

    def __init__(self, engine: Engine, conditions: Conditions) -> None:
        self.ports: dict[NodeId, Port] = {}
        self.traffic = Traffic()
        self.trace: Trace | None = None
        self.conditions = conditions
        self._engine = engine
        self._rng = engine.stream("network")
        self._chance = self._rng.random
        self._listening: dict[str, Port] = {}
        self._cuts: dict[int, tuple[Collection[NodeId], Collection[NodeId]]] = {}
        self._cut_serial = 0
        self._tls = conditions.model is Model.TLS

    def attach(self, node: NodeId, address: str) -> Port:
        """A new machine at this address."""
        port = self.ports[node] = Port(node, self, self.conditions.distance(self._rng))
        self._listening[address] = port
        return port

    def move(self, node: NodeId, old: str, new: str) -> None:
        """The machine has another address from now on; at the old one there is nobody."""
        del self._listening[old]
        self._listening[new] = self.ports[node]

    # --- dials ----------------------------------------------------------------------------------------------------

    def begin(self, source: Port, dial: Dial) -> None:
        """Try the dial's next address."""
        target = self._listening.get(dial.addresses[dial.position])
        attempt = (source, dial, dial.position)
        self._engine.after(self.conditions.dial_timeout_s, self._time_out, attempt)
        if target is None or not target.powered or self._apart(source, target):
            return
        round_trip = 2 * (source.distance + target.distance)
        if target.endpoint is None:
            self._engine.after(round_trip, self._refuse, attempt)
        else:
            self._engine.after(self.conditions.handshake_round_trips * round_trip, self._accept, (*attempt, target))

    def _time_out(self, attempt: tuple[Port, Dial, int]) -> None:
        source, dial, position = attempt
        if dial.live and dial.position == position:
            self._next_address(source, dial, refused=False)

    def _refuse(self, attempt: tuple[Port, Dial, int]) -> None:
        source, dial, position = attempt
        if dial.live and dial.position == position:
            self._next_address(source, dial, refused=True)

    def _next_address(self, source: Port, dial: Dial, *, refused: bool) -> None:
        if source.frozen:
            source.backlog.append((lambda late: self._next_address(source, late, refused=refused), dial))
            return
        dial.refused = dial.refused and refused
        dial.position += 1
        if dial.position < len(dial.addresses):
            self.begin(source, dial)
            return
        self._give_up(source, dial)
        if source.endpoint is not None:
            source.endpoint.dial_failed(dial.node, dial.addresses[-1], refused=dial.refused)
            source.flush()

    def _give_up(self, source: Port, dial: Dial) -> None:
        dial.live = False
        if source.dials.get(dial.key) is dial:
            del source.dials[dial.key]

    def _accept(self, attempt: tuple[Port, Dial, int, Port]) -> None:
        source, dial, position, target = attempt
        if not dial.live or dial.position != position or not target.powered or self._apart(source, target):
            return
        if target.frozen or source.frozen:
            return  # the handshake does not end before the dial's time is over
        wrong = target is source or dial.node not in {None, target.node}
        if wrong or target.endpoint is None or not target.endpoint.admits(source.node):
            self._next_address(source, dial, refused=False)
        elif target.node in source.pipes:
            self._give_up(source, dial)
        elif target.node > source.node or not self._dials_between(target, source):  # of two the smaller id's stays
            self._greet(source, dial, target)

    def _greet(self, source: Port, dial: Dial, target: Port) -> None:
        there, back = pair(source, target, self._engine.now)
        there.dial = dial
        self._put(back, HELLO, 0)  # before anything that the acceptor says when its session is up: it would be lost
        self._begin_session(target, back, "")

    def _dials_between(self, port: Port, peer: Port) -> list[Dial]:
        """Dials that would bring about the same session, whether they know whom they will find or not."""
        return [
            dial
            for dial in port.dials.values()
            if dial.node == peer.node or (dial.node is None and self._listening.get(dial.addresses[0]) is peer)
        ]

    def _begin_session(self, port: Port, pipe: Pipe, address: str) -> None:
        """One side is up; whatever session it had with that peer goes down first, and its own dial is given up."""
        peer = pipe.target.node
        old = port.pipes.get(peer)
        if old is not None:
            self._end(old)
        for own in self._dials_between(port, pipe.target):
            self._give_up(port, own)
        port.pipes[peer] = pipe
        if port.endpoint is not None:
            port.endpoint.link_up(peer, address)
            port.flush()

    def _established(self, pipe: Pipe) -> None:
        """The acceptor's first frame has reached the dialler."""
        mine, port = pipe.twin, pipe.target
        dial = mine.dial
        assert dial is not None, "the dialler's pipe knows its dial"
        if not dial.live or port.endpoint is None or not port.endpoint.admits(pipe.source.node):
            mine.up = False
            self._put(mine, END, 0)
            if dial.live:
                self._next_address(port, dial, refused=False)
            return
        self._give_up(port, dial)
        self._begin_session(port, mine, dial.addresses[dial.position])

    # --- what is sent and arrives ---------------------------------------------------------------------------------

    def send(self, pipe: Pipe, parcels: list[Parcel]) -> int:
        """Send one batch; return its bytes on the line."""
        size, now = self.traffic.sent(parcels), self._engine.now
        if now - pipe.used_at > KEEP_ALIVE_S and (idle := now - max(pipe.used_at, pipe.twin.used_at)) > KEEP_ALIVE_S:
            self.traffic.idle(idle)
        pipe.used_at = now
        if pipe.lost:
            return size
        if self._tls:
            self._put(pipe, parcels, size)
        else:
            for parcel in parcels:
                self._throw(pipe, parcel)
        return size

    def _put(self, pipe: Pipe, parcels: list[Parcel], size: int) -> None:
        conditions, engine = self.conditions, self._engine
        chance = self._chance()
        chance *= chance
        at = engine.now + pipe.delay * (1.0 + conditions.jitter * chance * chance) + size * conditions.seconds_per_byte
        at = max(at, pipe.arrives_at)
        pipe.arrives_at = at
        pipe.flying.append(parcels)
        engine.at(at, self._arrive, pipe)

    def _arrive(self, pipe: Pipe) -> None:
        if pipe.lost:
            pipe.flying.clear()
        elif pipe.cut:
            pipe.held += 1
        elif self._engine.now < pipe.stalled_until:
            self._engine.at(pipe.stalled_until, self._arrive, pipe)
        elif pipe.target.frozen:
            pipe.target.backlog.append((self._arrive, pipe))
        elif (parcels := pipe.flying.popleft()) is HELLO:
            self._established(pipe)
        elif parcels is END:
            self._end(pipe.twin)
        else:
            self._deliver(pipe, parcels)

    def _deliver(self, pipe: Pipe, parcels: list[Parcel]) -> None:
        twin, target, sender = pipe.twin, pipe.target, pipe.source.node
        endpoint = target.endpoint
        if twin.up and endpoint is not None and target.pipes.get(sender) is twin:
            if self.trace is not None:
                self.trace.delivered(sender, target.node, parcels)
            endpoint.messages(sender, [parcel.open() for parcel in parcels])
            target.flush()

    def _throw(self, pipe: Pipe, parcel: Parcel) -> None:
        """Send one message by itself: it may be lost, come twice, or late."""
        conditions, rng = self.conditions, self._rng
        if rng.random() < conditions.loss:
            return
        for _ in range(2 if rng.random() < conditions.duplication else 1):
            late = rng.uniform(0.0, conditions.straggle_s) if rng.random() < conditions.straggling else 0.0
            at = self._engine.now + pipe.delay * (1.0 + conditions.jitter * rng.random() ** 4) + late
            self._engine.at(max(at, pipe.stalled_until), self._catch, (pipe, parcel))

    def _catch(self, thrown: tuple[Pipe, Parcel]) -> None:
        pipe, parcel = thrown
        if pipe.target.frozen:
            pipe.target.backlog.append((self._catch, thrown))
        elif not pipe.cut and not pipe.lost:
            self._deliver(pipe, [parcel])

    # --- the end of sessions --------------------------------------------------------------------------------------

    def hang_up(self, pipe: Pipe) -> None:
        """One side ends the session and tells the other."""
        self._end(pipe)
        self._put(pipe, END, 0)

    def _end(self, pipe: Pipe) -> None:
        """The session has ended for the pipe's source, if it had not before."""
        port, peer = pipe.source, pipe.target.node
        pipe.up = False
        if port.pipes.get(peer) is pipe:
            del port.pipes[peer]
            if port.frozen:
                port.backlog.append((self._report_down, (port, peer)))
            else:
                self._report_down((port, peer))

    def _report_down(self, report: tuple[Port, NodeId]) -> None:
        port, peer = report
        if port.endpoint is not None:
            port.endpoint.link_down(peer, refused=False)
            port.flush()

    def _hush(self, pipe: Pipe) -> None:
        """From now on the target hears nothing: unless that ends, it ends the session."""
        pipe.quiet += 1
        wait = self._rng.uniform(self.conditions.silence_first_s, self.conditions.silence_last_s)
        self._engine.after(wait, self._silence, (pipe, pipe.quiet))

    def _hear(self, pipe: Pipe) -> None:
        """The target hears something again; of a session that was forgotten on the way it never will."""
        if not pipe.lost:
            pipe.quiet += 1

    def _silence(self, hushed: tuple[Pipe, int]) -> None:
        pipe, quiet = hushed
        if pipe.quiet != quiet or pipe.target.pipes.get(pipe.source.node) is not pipe.twin:
            return
        if pipe.target.frozen:  # afterwards it takes the silence for its own, and listens anew
            self._hush(pipe)
        else:
            self.hang_up(pipe.twin)

    # --- faults of links ------------------------------------------------------------------------------------------

    def stall(self, pipe: Pipe, seconds: float) -> None:
        """Let nothing through one way for a while; then all of it comes, in order."""
        until = self._engine.now + seconds
        if until <= pipe.stalled_until:
            return
        pipe.stalled_until = until
        if seconds > self.conditions.silence_first_s:
            self._hush(pipe)
            self._engine.at(until, self._unhush, (pipe, pipe.quiet))

    def _unhush(self, hushed: tuple[Pipe, int]) -> None:
        pipe, quiet = hushed
        if pipe.quiet == quiet:
            self._hear(pipe)

    def reset(self, pipe: Pipe) -> None:
        """End a session for both sides; what was on its way is lost."""
        for side in (pipe, pipe.twin):
            side.lost = True
            self._engine.after(side.delay, self._end, side)

    def half_open(self, pipe: Pipe) -> None:
        """Something on the way forgets the session: neither side is told, each finds out by the other's silence."""
        for side in (pipe, pipe.twin):
            side.lost = True
            self._hush(side)

    def cut(self, sources: Collection[NodeId], targets: Collection[NodeId]) -> int:
        """Let nothing pass from the ones to the others until `mend`."""
        self._cut_serial += 1
        self._cuts[self._cut_serial] = (frozenset(sources), frozenset(targets))
        self._apply_cuts()
        return self._cut_serial

    def mend(self, cut: int) -> None:
        """End one cut."""
        if self._cuts.pop(cut, None) is not None:
            self._apply_cuts()

    def _apply_cuts(self) -> None:
        for port in self.ports.values():
            for pipe in list(port.pipes.values()):
                self._apply_cut(pipe)
                self._apply_cut(pipe.twin)

    def _apply_cut(self, pipe: Pipe) -> None:
        cut = self._is_cut(pipe.source.node, pipe.target.node)
        if cut and not pipe.cut:
            pipe.cut, pipe.cut_at = True, self._engine.now
            self._hush(pipe)
        elif pipe.cut and not cut:
            pipe.cut = False
            self._hear(pipe)
            outage = min(self._engine.now - pipe.cut_at, _RETRANSMISSION_S)
            pipe.stalled_until = max(pipe.stalled_until, self._engine.now + self._rng.uniform(0.0, outage))
            for _ in range(pipe.held):
                self._engine.at(pipe.stalled_until, self._arrive, pipe)
            pipe.held = 0

    def _is_cut(self, source: NodeId, target: NodeId) -> bool:
        return any(source in sources and target in targets for sources, targets in self._cuts.values())

    def _apart(self, a: Port, b: Port) -> bool:
        return bool(self._cuts) and (self._is_cut(a.node, b.node) or self._is_cut(b.node, a.node))

    # --- faults of machines ---------------------------------------------------------------------------------------

    def kill(self, port: Port) -> None:
        """End the process; its machine lives and says so to whoever has a session with it or dials."""
        self._lose_process(port)
        for pipe in self._pipes_to(port):
            if not pipe.lost:
                self._put(pipe.twin, END, 0)

    def power_off(self, port: Port) -> None:
        """End the machine: nobody is told, and nobody answers."""
        self._lose_process(port)
        port.powered = False
        for pipe in self._pipes_to(port):
            pipe.lost = pipe.twin.lost = True
            self._hush(pipe.twin)

    def power_on(self, port: Port) -> None:
        """Let the machine answer again: that it knows nothing of the sessions it had."""
        port.powered = True
        for pipe in self._pipes_to(port):
            self._engine.after(2 * pipe.delay, self._end, pipe)

    def freeze(self, port: Port) -> None:
        """Stop the process: its sessions stay, and what arrives waits."""
        port.frozen = True
        for pipe in self._pipes_to(port):
            self._hush(pipe.twin)

    def thaw(self, port: Port) -> None:
        """Let the process run again: first what had arrived, then its timers."""
        port.frozen = False
        for pipe in self._pipes_to(port):
            if not pipe.twin.lost and not pipe.twin.cut:
                pipe.twin.quiet += 1
        backlog, port.backlog = port.backlog, []
        for action, subject in backlog:
            action(subject)
        if port.endpoint is not None:
            port.endpoint.thawed()
            port.flush()

    def _pipes_to(self, port: Port) -> list[Pipe]:
        return [pipe for other in self.ports.values() if (pipe := other.pipes.get(port.node)) is not None]

    def _lose_process(self, port: Port) -> None:
        port.endpoint = None
        port.frozen = False
        port.backlog.clear()
        for dial in port.dials.values():
            dial.live = False
        port.dials.clear()
        for pipe in port.pipes.values():
            pipe.up = False
        port.pipes.clear()
