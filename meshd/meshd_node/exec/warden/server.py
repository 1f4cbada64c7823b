"""The warden's loop: hears the daemon and the cages, in one thread that never ends: cages die with who made them."""

import math
import selectors
import time
from contextlib import suppress
from typing import assert_never

from meshd_node.exec.cage.spec import Maker
from meshd_node.exec.control import Ended, Keep, Kill, News, Order, Proved, Received, Start, Wire, close_all
from meshd_node.exec.warden.cages import Cages
from meshd_node.exec.warden.recipe import Recipe
from meshd_protocol.records import CageLevel


class Warden:
    """Serves one daemon until that hangs up."""

    def __init__(self, daemon: Wire[Order], maker: Maker, recipe: Recipe) -> None:
        self._daemon = daemon
        self._maker = maker
        self._selector = selectors.DefaultSelector()
        self._cages = Cages(maker, recipe, self._selector, self._tell)
        self._serving = True

    def run(self) -> None:
        """Serve until the daemon hangs up; then end every cage."""
        self._selector.register(self._daemon, selectors.EVENT_READ, self._obey)
        self._tell(Proved(CageLevel.NONE, [], self._maker.name))
        try:
            while self._serving:
                self._turn()
        finally:
            self._cages.end_all()

    def _turn(self) -> None:
        now = time.monotonic()
        wait = self._cages.next_at(now) - now
        for key, _ in self._selector.select(None if math.isinf(wait) else max(0.0, wait)):
            key.data(time.monotonic())
        self._cages.tick(time.monotonic())

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
                    self._cages.start(start, received.descriptors, now)
                else:
                    close_all(received.descriptors)
                    self._tell(Ended(number, -1, "its sockets were lost: this process is out of descriptors"))
            case Kill(number):
                self._cages.kill(number, now)
            case Keep(blank):
                self._cages.keep(blank)
            case _:
                assert_never(received.word)

    def _tell(self, news: News) -> None:
        with suppress(ConnectionError):  # the daemon is gone, as the next look at its socket will show
            self._daemon.send(news)
