"""Asking peers to dial this node back, and what each of them says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from meshd_node.net.link import Link
from meshd_protocol.messages.peer import DialBack, DialBackReport, DialOutcome


@dataclass(frozen=True, slots=True)
class Testimony:
    """What came of one peer's dials. `outcomes` is in the order of the addresses; None: it did not answer in time."""

    link: Link
    outcomes: list[DialOutcome] | None


class Witnesses:
    """The questions that are under way. An answer counts only in the session in which it was asked."""

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        self._streams = 0
        self._waiting: dict[tuple[int, int], trio.MemorySendChannel[DialBackReport | None]] = {}

    async def hear(self, links: Sequence[Link], addresses: Sequence[str], patience_s: float) -> list[Testimony]:
        """Ask all of these peers at once; wait no longer than this."""
        found: list[Testimony] = []
        async with trio.open_nursery() as nursery:
            for link in links:
                nursery.start_soon(self._ask, link, list(addresses), patience_s, found)
        return found

    def answered(self, link: Link, report: DialBackReport, stream: int) -> None:
        """A peer answered. An answer to no question of ours is too late, and ignored."""
        waiting = self._waiting.pop((link.session, stream), None)
        if waiting is not None:
            waiting.send_nowait(report)

    def link_down(self, link: Link) -> None:
        """This peer will not answer any more."""
        for key in [key for key in self._waiting if key[0] == link.session]:
            self._waiting.pop(key).send_nowait(None)

    async def _ask(self, link: Link, addresses: list[str], patience_s: float, found: list[Testimony]) -> None:
        self._streams += 1
        key = (link.session, self._streams)
        send, receive = trio.open_memory_channel[DialBackReport | None](1)
        self._waiting[key] = send
        report = None
        try:
            link.send(DialBack(addresses), self._streams)
            self._flush()
            with trio.move_on_after(patience_s):
                report = await receive.receive()
        finally:
            self._waiting.pop(key, None)
        fits = report is not None and len(report.outcomes) == len(addresses)
        found.append(Testimony(link, report.outcomes if report is not None and fits else None))
