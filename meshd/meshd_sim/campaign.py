"""One seed: a world, a swarm of faults, then quiet; what must hold is checked as it goes and once it has settled."""

import random
import traceback
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, TextIO

from meshd_node.core.membership.config import MembershipConfig
from meshd_sim.checkers.bounds import Bounds, quiescent_bytes_per_s
from meshd_sim.checkers.broken import Broken
from meshd_sim.checkers.deaths import Deaths
from meshd_sim.checkers.records import Records
from meshd_sim.checkers.revocations import Revocations
from meshd_sim.checkers.sometimes import Sometimes
from meshd_sim.checkers.views import Views
from meshd_sim.checkers.watch import Checker
from meshd_sim.conditions import Conditions, Model
from meshd_sim.faults import DATAGRAM_FAULTS, DRIFT_MAX, HARMLESS, Fault, Faults, Swarm, draw
from meshd_sim.liars import Liar, Lie, Plot
from meshd_sim.trace import Trace
from meshd_sim.world import Node, World

_FAULTS_S: Final = 30.0
_LOOK_EVERY_S: Final = 5.0
# The longest suspicion of a lone observer, the pauses between dials, a few repairs: then all must agree. Whoever nobody
# observed any more is found out when its lease ends, and that is the rest.
SETTLED_WITHIN_S: Final = 60.0 + 3 * 60.0
# What was said just now need not be known everywhere yet: of a few repairs some may be with liars.
_FRESH_S: Final = 60.0
_AFTERMATH_S: Final = 20.0
_QUIET_S: Final = 20.0
# Between two nodes there is nobody to ask whether it is the link that fails.
_STRICT_FROM: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run. `faults` are those that a seed may draw from."""

    seed: int
    nodes: int = 9
    minutes: float = 1.0
    faults: frozenset[Fault] = frozenset(Fault)
    model: Model = Model.TLS
    config: MembershipConfig = field(default_factory=MembershipConfig)

    def command(self) -> str:
        """How a person runs it again."""
        faults = ",".join(kind.value for kind in Fault if kind in self.faults) or "none"
        if self.faults == frozenset(Fault):
            faults = "all"
        size = f"--nodes {self.nodes} --minutes {self.minutes:g}"
        return f"python -m meshd_sim --seed {self.seed} {size} --faults {faults} --network {self.model.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it went. `failure` is "" if everything held. `settled_s` are the times until all agreed again."""

    swarm: Swarm
    trace: str
    events: int
    virtual_s: float
    settled_s: list[float]
    struck: dict[Fault, int]
    seen: dict[str, int]
    failure: str = ""


def swarm_of(plan: Plan) -> Swarm:
    """The faults that a seed has."""
    allowed: Collection[Fault] = plan.faults
    if plan.model is Model.TLS:
        allowed = plan.faults - DATAGRAM_FAULTS
    return draw(random.Random(f"{plan.seed}/swarm"), allowed)  # noqa: S311 - repeatable is what it has to be


class Campaign:
    """One run of one plan."""

    def __init__(self, plan: Plan, out: TextIO | None = None) -> None:
        self._plan = plan
        self._swarm = swarm_of(plan)
        self._rng = random.Random(f"{plan.seed}/campaign")  # noqa: S311 - repeatable is what it has to be
        self.world = World(plan.seed, conditions=self._conditions(), config=plan.config)
        self.trace = Trace(lambda: self.world.now, self.world.name, out)
        self.world.network.trace = self.trace
        kinds = self._swarm.kinds
        strict = plan.model is Model.TLS and plan.nodes >= _STRICT_FROM
        self._views = Views(self.world)
        self._revocations = Revocations(self.world)
        self._sometimes = Sometimes(self.world)
        self._checkers: list[Checker] = [
            Records(self.world),
            self._revocations,
            self._views,
            Bounds(self.world),
            Deaths(self.world, strict=strict and kinds <= HARMLESS | {Fault.LIES}),
            self._sometimes,
        ]
        self.world.watches += [self.trace, *self._checkers]
        self._faults = Faults(self.world, self._swarm)
        self._settled_s: list[float] = []
        self._wrong_at = 0.0
        # Liars and lost datagrams go on for ever, and so does what they bring about.
        self._lossy = bool(kinds & DATAGRAM_FAULTS)
        self._calm = not kinds & ({Fault.LIES} | DATAGRAM_FAULTS)

    def run(self) -> Outcome:
        """Run to the end, or to the first thing that does not hold."""
        failure = ""
        try:
            self._populate()
            until = self.world.now + 60.0 * self._plan.minutes
            while self.world.now < until:
                self._round()
        except Broken as broken:
            failure = str(broken)
        except Exception:  # whatever a machine raises is found by this seed
            failure = traceback.format_exc()
        return Outcome(
            swarm=self._swarm,
            trace=self.trace.digest(),
            events=self.world.engine.events,
            virtual_s=self.world.now,
            settled_s=self._settled_s,
            struck=self._faults.struck,
            seen=self._sometimes.seen,
            failure=failure,
        )

    def _conditions(self) -> Conditions:
        rng = random.Random(f"{self._plan.seed}/conditions")  # noqa: S311 - repeatable is what it has to be
        loss, duplication, straggling = (rng.uniform(0.0, most) for most in (0.2, 0.3, 0.3))
        kinds = self._swarm.kinds
        return Conditions(
            model=self._plan.model,
            loss=loss if Fault.LOSS in kinds else 0.0,
            duplication=duplication if Fault.DUPLICATION in kinds else 0.0,
            straggling=straggling if Fault.STRAGGLING in kinds else 0.0,
        )

    # --- the beginning --------------------------------------------------------------------------------------------

    def _populate(self) -> None:
        """A mesh that is there already, or one whose nodes join one by one through its first ones."""
        drift = DRIFT_MAX if Fault.DRIFT in self._swarm.kinds else 0.0
        if self._rng.random() < 0.5:
            nodes = self.world.found(self._plan.nodes, drift=drift)
        else:
            nodes = self.world.prepare(self._plan.nodes, drift=drift)
            for node in nodes:
                self.world.start(node)
                self.world.run(self._rng.uniform(0.0, 1.0))
        if Fault.LIES in self._swarm.kinds:
            self._corrupt(nodes)

    def _corrupt(self, nodes: list[Node]) -> None:
        """Let fewer nodes lie than the claims that are believed at once take."""
        most = min(self._plan.config.claims - 1, (len(nodes) - 1) // 4)
        liars = nodes[len(nodes) - most :]
        plot = Plot(nodes[: len(nodes) - most], self.world.engine.stream("plot"))
        for liar in liars:
            liar.lies = True
            Liar(liar, self._rng.choice(list(Lie)), plot, self.world.notary)

    # --- faults, then quiet ---------------------------------------------------------------------------------------

    def _round(self) -> None:
        self._faults.begin()
        self._pass(_FAULTS_S)
        self._faults.end()
        self._settle()
        self._stay_quiet()

    def _pass(self, seconds: float) -> None:
        until = self.world.now + seconds
        while self.world.now < until:
            self.world.run(min(_LOOK_EVERY_S, until - self.world.now))
            for checker in self._checkers:
                checker.look()

    def _settle(self) -> None:
        """Wait until all agree; it has to come in time."""
        began, settled = self.world.now, self.world.now
        # The last fault may show after a while: a link that is only half open takes its time to end.
        while settled - self._disturbed_at(began) < _AFTERMATH_S:
            self._pass(1.0)
            settled = self.world.now
            wrong = self._unsettled()
            if settled - began > SETTLED_WITHIN_S:
                raise Broken(10, f"{SETTLED_WITHIN_S:.0f} s after it became quiet {wrong or 'views still change'}")
            if wrong:
                self._wrong_at = settled
        self._settled_s.append(self._disturbed_at(began) - began)

    def _disturbed_at(self, began: float) -> float:
        """When something was last not as it should be, since the quiet began."""
        changed_at = self._views.changed_at if self._calm else began
        return max(began, changed_at, self._wrong_at)

    def _unsettled(self) -> str:
        return self._views.unsettled(_FRESH_S, doubts=not self._calm) or self._revocations.unsettled()

    def _stay_quiet(self) -> None:
        """Nothing changes any more, and little is said."""
        sent, began = self.world.network.traffic.total(), self.world.now
        self._pass(_QUIET_S)
        if (wrong := self._unsettled()) and not self._lossy:
            raise Broken(10, f"all agreed, and {_QUIET_S:.0f} s later {wrong}")
        if self._calm and self._views.changed_at > began:
            raise Broken(16, f"a view changed {self._views.changed_at - began:.1f} s after all agreed")
        living = len(self.world.honest())
        each = (self.world.network.traffic.total() - sent) / _QUIET_S / max(1, living)
        if self._calm and each > quiescent_bytes_per_s(len(self.world.nodes)):
            raise Broken(15, f"{each:.0f} bytes per second and node, though nothing happens")
