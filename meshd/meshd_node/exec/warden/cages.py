"""All cages of a warden: which one serves whom, which wait blank, and when each ends."""

import math
import selectors
from collections.abc import Callable
from typing import Final

from meshd_node.errors import CageError
from meshd_node.exec import offspring
from meshd_node.exec.cage.cgroups import Cgroups, Group
from meshd_node.exec.cage.spec import Maker
from meshd_node.exec.control import Ended, Fork, Kill, Ready, Start, close_all
from meshd_node.exec.warden.cage import Cage
from meshd_node.exec.warden.gate import Gate
from meshd_node.exec.warden.recipe import PIDS, Harness, Recipe, harness_of
from meshd_node.exec.warden.resident import Resident
from meshd_node.log import log

# A cage takes 0.1 s, ten times that under load.
_READY_S: Final = 20.0
# A worker whose zygote does not end it in so long is ended with its cage.
_KILL_S: Final = 1.0
# A tenant who comes back soon finds its cage warm, at 17 MB each.
_IDLE_S: Final = 30.0
_IDLE_MAX: Final = 4
# The cage that takes a blank one's place is made once whoever took that one had time to begin.
_REPLACE_S: Final = 0.25
# Cages that fail are tried again, later each time.
_RETRY_MIN_S: Final = 0.25
_RETRY_MAX_S: Final = 30.0
# After so many in a row, what was proved of this maker is not true any more.
_FAILURES_MAX: Final = 5
# A zygote's socket that is full empties in ms; so does the group of somebody who was killed.
_SOON_S: Final = 0.01
# What a cage without namespaces leaves becomes ours piece by piece, each when its parent has died.
_ORPHANS_S: Final = 1.0
_REASON_CHARS: Final = 300

Tell = Callable[[Ended], None]


class Cages:
    """Makes cages, gives each to one tenant, tells how workers end."""

    def __init__(
        self, maker: Maker, recipe: Recipe, cgroups: Cgroups | None, selector: selectors.BaseSelector, tell: Tell
    ) -> None:
        self._maker = maker
        self._recipe = recipe
        self._cgroups = cgroups
        self._selector = selector
        self._tell = tell
        self._cages: dict[int, Cage] = {}
        self._of_worker: dict[int, Cage] = {}
        self._made = 0
        self._blank = 0
        self._blank_at = 0.0
        self._failures = 0
        # Ends of workers whose cages failed: told late, for whoever hears of them asks for others at once.
        self._owed: list[tuple[float, Ended]] = []
        # Groups whose processes were killed, and take some ms to be gone.
        self._emptying: list[Group] = []
        # Until when those may come that a cage has left.
        self._orphans_until = 0.0

    @property
    def hopeless(self) -> bool:
        """Whether cages of this maker have come to fail, and nobody works in one that was made before."""
        return self._failures >= _FAILURES_MAX and not any(cage.ready and cage.workers for cage in self._cages.values())

    # --- what the daemon asks ---------------------------------------------------------------------------------

    def keep(self, blank: int) -> None:
        """Have so many blank cages waiting from now on."""
        self._blank = blank

    def start(self, start: Start, descriptors: list[int], now: float) -> None:
        """Have a worker made; `Ended` follows some day."""
        try:
            cage = self._cage_for(start.tenant, harness_of(start), now)
        except (OSError, CageError) as error:
            close_all(descriptors)
            # Of an environment that a cage's user can not come to nothing is wrong with other cages.
            if not start.environment:
                self._failed(str(error), now)
            self._owe(start.number, str(error), now)
            return
        resident = cage.workers[start.number] = Resident(start.number, start.limits)
        self._of_worker[start.number] = cage
        if self._cgroups is not None:
            gate = resident.gate = Gate()
            descriptors.append(gate.descriptor)
            self._selector.register(gate, selectors.EVENT_READ, lambda now: self._admit(cage, resident, now))
        bound = self._address_space(start)
        cage.order(Fork(start.number, start.runtime, start.gpus, bound, start.own_process), descriptors)

    def _address_space(self, start: Start) -> int:
        """Bound addresses where nothing bounds memory, but for those whose GPU's driver reserves more than there is."""
        bounded = self._cgroups is not None and "memory" in self._cgroups.controllers
        return 0 if bounded or start.gpus else start.limits.memory_bytes

    def kill(self, number: int, now: float) -> None:
        """End a worker, if it is there."""
        cage = self._of_worker.get(number)
        if cage is not None:
            cage.workers[number].kill(now)
            cage.order(Kill(number))

    def end_all(self) -> None:
        """End every cage."""
        for cage in list(self._cages.values()):
            self._remove(cage)
        for group in self._emptying:
            group.remove()
        if self._cgroups is not None:
            self._cgroups.close()

    # --- time -------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due."""
        for cage in list(self._cages.values()):
            cage.flush()
            if now >= self._end_at(cage):
                self._end(cage, now, "its cage did not answer")
        for at, ended in self._owed[:]:
            if now >= at:
                self._owed.remove((at, ended))
                self._tell(ended)
        self._emptying = [group for group in self._emptying if not group.remove()]
        if now < self._orphans_until and self._kill_orphans():
            self._orphans_until = now + _ORPHANS_S
        if now >= self._next_blank():
            self._make_blank(now)

    def next_at(self, now: float) -> float:
        """When `tick` has something to do."""
        ends = [self._end_at(cage) for cage in self._cages.values()]
        busy = self._emptying or now < self._orphans_until or any(cage.blocked for cage in self._cages.values())
        soon = now + _SOON_S if busy else math.inf
        return min([*ends, *(at for at, _ in self._owed), soon, self._next_blank()])

    def _end_at(self, cage: Cage) -> float:
        if not cage.ready:
            return cage.made_at + _READY_S
        killed = [resident.killed_at + _KILL_S for resident in cage.workers.values() if resident.killed_at is not None]
        if killed or cage.workers or cage.tenant is None:
            return min(killed, default=math.inf)
        return cage.idle_since + _IDLE_S

    def _next_blank(self) -> float:
        waiting = sum(cage.tenant is None for cage in self._cages.values())
        return self._blank_at if waiting < self._blank else math.inf

    # --- which cage serves whom -------------------------------------------------------------------------------

    def _cage_for(self, tenant: bytes, harness: Harness, now: float) -> Cage:
        own = (cage for cage in self._cages.values() if cage.tenant == tenant and not cage.retired)
        cage = next((cage for cage in own if cage.harness == harness), None) or self._blank_for(harness, now)
        if cage is None:
            cage = self._make(harness, now)
        cage.tenant = tenant
        return cage

    def _blank_for(self, harness: Harness, now: float) -> Cage | None:
        blanks = [cage for cage in self._cages.values() if cage.tenant is None and cage.harness == harness]
        if not blanks:
            return None
        self._blank_at = max(self._blank_at, now + _REPLACE_S)
        return min(blanks, key=lambda cage: not cage.ready)

    def _make_blank(self, now: float) -> None:
        try:
            self._make(Harness(), now)
        except (OSError, CageError) as error:
            self._failed(str(error), now)

    def _make(self, harness: Harness, now: float) -> Cage:
        self._made += 1
        cage = Cage.make(self._recipe, self._maker, self._made, harness, now)
        self._cages[cage.number] = cage
        self._selector.register(cage.wire, selectors.EVENT_READ, lambda now: self._hear(cage, now))
        self._selector.register(cage.pidfd, selectors.EVENT_READ, lambda now: self._end(cage, now))
        return cage

    # --- what cages say ---------------------------------------------------------------------------------------

    def _hear(self, cage: Cage, now: float) -> None:
        if cage.number not in self._cages:
            return  # it ended in this very turn
        received = cage.receive()
        match received and received.word:
            case Ready() if received and not cage.ready:
                self._settle(cage, received.pid, now)
            case Ended(number, status, reason) if number in cage.workers:
                self._worker_ended(cage, Ended(number, status, reason[:_REASON_CHARS]), now)
            case _:  # its end, or a word that no zygote says
                self._end(cage, now)

    def _worker_ended(self, cage: Cage, ended: Ended, now: float) -> None:
        resident = cage.workers.pop(ended.number)
        del self._of_worker[ended.number]
        breach = resident.breach(ended)
        cage.retired = cage.retired or bool(breach)
        self._tell(Ended(ended.number, ended.status, breach or ended.reason))
        self._release(resident)
        if not cage.workers:
            cage.idle_since = now
            if cage.retired:
                self._end(cage, now)
            self._bound_idle(now)

    def _settle(self, cage: Cage, pid: int, now: float) -> None:
        """Its zygote is there: bound what it will make, and tell it what to make."""
        try:
            if self._cgroups is not None:
                cage.group = self._cgroups.make(f"cage-{cage.number}", pids=PIDS)
                cage.group.add(pid)
        except (OSError, CageError) as error:
            self._end(cage, now, f"its cage could not be bounded: {error}")
            return
        cage.ready = True
        self._failures = 0
        cage.flush()

    def _admit(self, cage: Cage, resident: Resident, now: float) -> None:
        """A worker stands at its gate, or has ended there."""
        if resident.gate is None:
            return  # its cage ended in this very turn
        assert cage.group is not None, "a zygote is told of workers once its cage is bounded"
        self._selector.unregister(resident.gate)
        try:
            resident.admit(cage.group)
        except (OSError, CageError) as error:
            self._end(cage, now, f"the worker could not be bounded: {error}")

    def _release(self, resident: Resident) -> None:
        """Let go of what the kernel keeps of a worker that has ended."""
        if resident.gate is not None:
            self._selector.unregister(resident.gate)
            resident.close_gate()
        if resident.group is not None:
            resident.group.kill()
            self._emptying.append(resident.group)

    def _bound_idle(self, now: float) -> None:
        idle = [cage for cage in self._cages.values() if cage.tenant is not None and not cage.workers]
        for cage in sorted(idle, key=lambda cage: cage.idle_since)[: max(0, len(idle) - _IDLE_MAX)]:
            self._end(cage, now)

    # --- ends -------------------------------------------------------------------------------------------------

    def _end(self, cage: Cage, now: float, why: str = "its cage was ended") -> None:
        """End a cage, and tell of those who were in it."""
        if cage.number not in self._cages:
            return
        said = self._remove(cage)
        self._orphans_until = now + _ORPHANS_S
        if cage.ready:
            for number in cage.workers:
                self._tell(Ended(number, -1, why))
            return
        self._failed(said or "it ended without a word", now)
        for number in cage.workers:
            self._owe(number, f"its cage could not be made: {said}", now)

    def _remove(self, cage: Cage) -> str:
        """End a cage; return what its maker said last."""
        del self._cages[cage.number]
        self._selector.unregister(cage.wire)
        self._selector.unregister(cage.pidfd)
        for number, resident in cage.workers.items():
            del self._of_worker[number]
            if resident.gate is not None:
                self._selector.unregister(resident.gate)
        said = cage.end()
        if cage.group is not None:
            self._emptying.append(cage.group)
        self._kill_orphans()
        return said

    def _kill_orphans(self) -> bool:
        return offspring.kill_orphans({each.process.pid for each in self._cages.values()})

    def _failed(self, said: str, now: float) -> None:
        self._failures += 1
        self._blank_at = now + self._retry_s()
        log.error("cage_failed", maker=self._maker.name, said=said, again_in_s=self._retry_s())

    def _owe(self, number: int, reason: str, now: float) -> None:
        self._owed.append((now + self._retry_s(), Ended(number, -1, reason[:_REASON_CHARS])))

    def _retry_s(self) -> float:
        return float(min(_RETRY_MIN_S * 2 ** min(self._failures, 10), _RETRY_MAX_S))
