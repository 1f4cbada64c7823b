"""Faults of nodes and links in a world of jobs: which of them happen, how often, and that all of them end."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from meshd_sim.jobs.citizens import Citizen
from meshd_sim.jobs.faults import JobFault
from meshd_sim.jobs.society import Society
from meshd_sim.pipes import Pipe

# A frozen or powerless node, or a cut, lasts between these.
_SHORT_S: Final = 0.5
_LONG_S: Final = 25.0


class Upheaval:
    """Lets faults happen until `until`; by then all have ended but revocations. `submitters` are spared the worst."""

    def __init__(self, society: Society, rates: Mapping[JobFault, float], until: float) -> None:
        self._society = society
        self._engine = society.engine
        self._network = society.network
        self._rng = society.engine.stream("upheaval")
        self._until = until
        happenings: dict[JobFault, Callable[[], None]] = {
            JobFault.KILL: self._kill,
            JobFault.OUTAGE: self._outage,
            JobFault.FREEZE: self._freeze,
            JobFault.STALL: self._stall,
            JobFault.RESET: self._reset,
            JobFault.HALF_OPEN: self._half_open,
            JobFault.CUT: self._cut,
            JobFault.DRAIN: self._drain,
            JobFault.REVOKE: self._revoke,
        }
        for kind, rate in rates.items():
            self._plan(60.0 / rate, happenings[kind])
        self._engine.at(until, self._calm, None)

    def _plan(self, mean_s: float, fault: Callable[[], None]) -> None:
        at = self._engine.now + self._rng.expovariate(1.0 / mean_s)
        if at < self._until:
            self._engine.at(at, partial(self._happen, mean_s), fault)

    def _happen(self, mean_s: float, fault: Callable[[], None]) -> None:
        fault()
        self._plan(mean_s, fault)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _victim(self, *, submitters: bool) -> Citizen | None:
        """Somebody who runs, and has at least one other whom nothing befalls."""
        running = [
            each
            for each in self._society.citizens.values()
            if each.process is not None and not each.port.frozen and (submitters or not each.submits)
        ]
        return self._rng.choice(running) if running else None

    def _kill(self) -> None:
        self._stop(machine=False)

    def _outage(self) -> None:
        self._stop(machine=True)

    def _stop(self, *, machine: bool) -> None:
        # An owner's jobs end with it, and nothing of them is left to look at: one in ten is enough.
        victim = self._victim(submitters=self._rng.random() < 0.1)
        if victim is not None:
            self._society.stop(victim, machine=machine)
            self._engine.after(self._a_while(), self._restart, victim)

    def _restart(self, citizen: Citizen) -> None:
        if citizen.process is None:
            self._society.start(citizen)

    def _freeze(self) -> None:
        victim = self._victim(submitters=True)
        if victim is not None:
            self._network.freeze(victim.port)
            self._engine.after(self._a_while(), self._thaw, (victim, victim.process))

    def _thaw(self, frozen: tuple[Citizen, object]) -> None:
        citizen, process = frozen
        if citizen.process is process and citizen.port.frozen:
            self._network.thaw(citizen.port)

    def _drain(self) -> None:
        """A node drains, ends when that is done, and comes back."""
        victim = self._victim(submitters=False)
        if victim is not None:
            seconds = self._rng.uniform(0.0, 10.0)
            self._society.drain(victim, seconds)
            self._engine.after(seconds + 1.0, self._leave, (victim, victim.process))

    def _leave(self, drained: tuple[Citizen, object]) -> None:
        citizen, process = drained
        if citizen.process is process:
            self._society.stop(citizen, machine=False)
            self._engine.after(self._a_while(), self._restart, citizen)

    def _revoke(self) -> None:
        victim = self._victim(submitters=False)
        if victim is not None:
            self._society.revoke(victim)

    # --- links ----------------------------------------------------------------------------------------------------

    def _stall(self) -> None:
        for pipe in self._pipes():
            self._network.stall(pipe, self._rng.uniform(0.2, 5.0))

    def _reset(self) -> None:
        for pipe in self._pipes():
            self._network.reset(pipe)

    def _half_open(self) -> None:
        for pipe in self._pipes():
            self._network.half_open(pipe)

    def _pipes(self) -> list[Pipe]:
        """One session of anybody, if there is one."""
        pipes = [pipe for each in self._society.citizens.values() for pipe in each.port.pipes.values()]
        return [self._rng.choice(pipes)] if pipes else []

    def _cut(self) -> None:
        """A split, one lonely node, or only one way of a split."""
        nodes = list(self._society.citizens)
        self._rng.shuffle(nodes)
        size = self._rng.choice([1, len(nodes) // 2])
        ones, others = nodes[:size], nodes[size:]
        cuts = [self._network.cut(ones, others)]
        if self._rng.random() < 0.7:
            cuts.append(self._network.cut(others, ones))
        for cut in cuts:
            self._engine.after(self._a_while(), self._network.mend, cut)

    def _a_while(self) -> float:
        longest = min(_LONG_S, max(self._until - self._engine.now, _SHORT_S))
        return self._rng.uniform(_SHORT_S, longest)

    # --- the end --------------------------------------------------------------------------------------------------

    def _calm(self, _: None) -> None:
        """From now on everybody lives and is reached. Liars go on to lie, and who gave no answers gives none."""
        for citizen in self._society.citizens.values():
            if citizen.port.frozen:
                self._network.thaw(citizen.port)
            if citizen.process is None:
                self._society.start(citizen)
