"""The warden's loop: hears the daemon and the cages, in one thread that never ends: cages die with who made them."""

import math
import selectors
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import assert_never

from meshd_node.exec import offspring
from meshd_node.exec.cage.cgroups import Cgroups
from meshd_node.exec.cage.spec import Maker
from meshd_node.exec.control import Ended, Keep, Kill, News, Order, Proved, Received, Start, Wire, close_all
from meshd_node.exec.warden.cages import Cages
from meshd_node.exec.warden.proving import PROOF_S, Prover
from meshd_node.exec.warden.recipe import Recipe
from meshd_node.log import log
from meshd_protocol.records import CageLevel


class Warden:
    """Serves one daemon until that hangs up. No cage is made for anybody before cages were attacked."""

    def __init__(
        self, daemon: Wire[Order], candidates: Sequence[Maker], cgroups: Cgroups | None, recipe: Recipe
    ) -> None:
        """`candidates` are ways to make cages, best first; with the last one, work runs whatever is found."""
        self._daemon = daemon
        self._candidates = candidates
        self._cgroups = cgroups
        self._recipe = recipe
        self._selector = selectors.DefaultSelector()
        self._cages: Cages | None = None
        self._prover: Prover | None = None
        self._proof_until = math.inf
        self._blank = 0
        # What was asked for before it is known how cages are made.
        self._early: dict[int, tuple[Start, list[int]]] = {}
        self._serving = True

    def run(self) -> None:
        """Serve until the daemon hangs up; then end every cage."""
        self._selector.register(self._daemon, selectors.EVENT_READ, self._obey)
        self._begin_proof()
        try:
            while self._serving:
                self._turn()
        finally:
            if self._prover is not None:
                self._prover.found()
            if self._cages is not None:
                self._cages.end_all()

    def _turn(self) -> None:
        now = time.monotonic()
        until = self._proof_until if self._cages is None else self._cages.next_at(now)
        for key, _ in self._selector.select(None if math.isinf(until) else max(0.0, until - now)):
            key.data(time.monotonic())
        now = time.monotonic()
        if self._cages is not None:
            self._cages.tick(now)
            if self._cages.hopeless:
                # The daemon starts another warden, which finds out what holds now.
                log.error("cages_fail", hint="`meshd doctor` says what is missing")
                self._serving = False
        elif now >= self._proof_until:
            self._end_proof(now)

    # --- the proof --------------------------------------------------------------------------------------------

    def _begin_proof(self) -> None:
        """Attack cages of every candidate. A single one is somebody's choice, and counts for nothing."""
        if len(self._candidates) == 1:
            self._use(Proved(CageLevel.NONE, [], self._candidates[0].name), time.monotonic())
            return
        self._prover = Prover(self._candidates, self._cgroups, self._daemon.close)
        self._proof_until = time.monotonic() + PROOF_S
        self._selector.register(self._prover, selectors.EVENT_READ, self._end_proof)

    def _end_proof(self, now: float) -> None:
        assert self._prover is not None, "a proof ends after it began"
        self._selector.unregister(self._prover)
        found = self._prover.found()
        self._prover = None
        offspring.kill_orphans(())  # nobody has made a cage yet but the prover
        if found is None:
            log.error("cage_not_proved", hint="see what `meshd doctor` says; work runs without a cage")
        self._use(found or Proved(CageLevel.NONE, [], self._candidates[-1].name), now)

    def _use(self, proved: Proved, now: float) -> None:
        """Make cages in this way from now on."""
        maker = next(each for each in self._candidates if each.name == proved.maker)
        self._cages = Cages(maker, self._recipe, self._cgroups, self._selector, self._tell)
        self._cages.keep(self._blank)
        self._tell(proved)
        for start, descriptors in self._early.values():
            self._cages.start(start, descriptors, now)
        self._early.clear()

    # --- the daemon -------------------------------------------------------------------------------------------

    def _obey(self, now: float) -> None:
        try:
            received = self._daemon.receive()
        except BlockingIOError:
            return
        except ConnectionError:
            received = None
        if received is None:
            self._serving = False
            return
        self._apply(received, now)

    def _apply(self, received: Received[Order], now: float) -> None:
        match received.word:
            case Start(number) as start:
                if len(received.descriptors) == 2:
                    self._start(start, received.descriptors, now)
                else:
                    close_all(received.descriptors)
                    self._tell(Ended(number, -1, "its sockets were lost: this process is out of descriptors"))
            case Kill(number):
                self._kill(number, now)
            case Keep(blank):
                self._blank = blank
                if self._cages is not None:
                    self._cages.keep(blank)
            case _:
                assert_never(received.word)

    def _start(self, start: Start, descriptors: list[int], now: float) -> None:
        if self._cages is None:
            self._early[start.number] = start, descriptors
        else:
            self._cages.start(start, descriptors, now)

    def _kill(self, number: int, now: float) -> None:
        if self._cages is not None:
            self._cages.kill(number, now)
        elif number in self._early:
            _, descriptors = self._early.pop(number)
            close_all(descriptors)
            self._tell(Ended(number, -1, "it was ended before it began"))

    def _tell(self, news: News) -> None:
        with suppress(ConnectionError):  # the daemon is gone, as the next look at its socket will show
            self._daemon.send(news)
