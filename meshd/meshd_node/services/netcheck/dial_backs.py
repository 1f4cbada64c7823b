"""Dialling peers back because they ask for it: bounded, so that nobody can aim this node at a third party."""

from collections.abc import Callable
from typing import Final, Protocol

import trio

from meshd_node.net.errors import ConnectionLost
from meshd_node.net.link import Link
from meshd_node.services.budget import Budget, PeerBudgets
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import ADDRESSES_MAX
from meshd_protocol.messages.peer import DialBackReport, DialOutcome

# Addresses: a peer may ask about all of its own twice at once, then once in five minutes; all peers together, so that
# a mesh which was switched on at once is served, and one that attacks adds little to what membership itself dials.
PEER_PER_S: Final = ADDRESSES_MAX / 300
PEER_BURST: Final = 2.0 * ADDRESSES_MAX
ALL_PER_S: Final = 1.0
ALL_BURST: Final = 8.0 * ADDRESSES_MAX


class Reach(Protocol):
    """How to find out whether a node can be dialled at an address."""

    async def __call__(self, node: NodeId, address: str) -> ConnectionLost | None:
        """Why it can not be, or None."""
        ...


class DialBacks:
    """Answers `DialBack`. `addresses_of` is what a node has signed of itself; `flush` sends what was queued."""

    def __init__(
        self,
        reach: Reach,
        addresses_of: Callable[[NodeId], list[str]],
        now: Callable[[], float],
        flush: Callable[[], None],
    ) -> None:
        self._reach = reach
        self._addresses_of = addresses_of
        self._now = now
        self._flush = flush
        self._each = PeerBudgets(PEER_PER_S, PEER_BURST)
        self._all = Budget(ALL_PER_S, ALL_BURST)

    def asked(self, nursery: trio.Nursery, link: Link, addresses: list[str], stream: int) -> None:
        """A peer wants to know. Dials in the background, but no address that is not its own, and not too many."""
        if not self._may(link.peer.node, len(addresses)):
            link.send(DialBackReport([DialOutcome.TOO_OFTEN] * len(addresses)), stream)
            return
        nursery.start_soon(self._dial, link, addresses, stream)

    def _may(self, node: NodeId, cost: int) -> bool:
        now = self._now()
        return self._each.spend(node, cost, now) and self._all.spend(cost, now)

    async def _dial(self, link: Link, addresses: list[str], stream: int) -> None:
        own = set(self._addresses_of(link.peer.node))
        outcomes = [DialOutcome.NOT_YOURS] * len(addresses)

        async def dial(at: int) -> None:
            outcomes[at] = _outcome(await self._reach(link.peer.node, addresses[at]))

        async with trio.open_nursery() as nursery:
            for at, address in enumerate(addresses):
                if address in own:
                    nursery.start_soon(dial, at)
        # If the session has ended meanwhile this goes nowhere: the link is the one that asked.
        link.send(DialBackReport(outcomes), stream)
        self._flush()


def _outcome(failure: ConnectionLost | None) -> DialOutcome:
    match failure:
        case None:
            return DialOutcome.REACHED
        case ConnectionLost(refused=True):
            return DialOutcome.REFUSED
        case ConnectionLost(silent=True):
            return DialOutcome.SILENT
        case _:
            return DialOutcome.FAILED
