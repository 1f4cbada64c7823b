"""The netcheck service: answers peers that want to be dialled back, and finds out the same for this node."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, assert_never

import trio

from meshd_node.core.membership.effects import LIVING, Member
from meshd_node.net.errors import ConnectionLost
from meshd_node.net.link import Link
from meshd_node.seams import Seams
from meshd_node.services.netcheck.advice import Facts, advise
from meshd_node.services.netcheck.dial_backs import DialBacks
from meshd_node.services.netcheck.failures import DialFailure, DialFailures
from meshd_node.services.netcheck.witnesses import Testimony, Witnesses
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.ids import NodeId, to_text
from meshd_protocol.messages.peer import DialBack, DialBackReport, DialOutcome

# So many peers are asked to dial back, at random: each may stand in another network.
WITNESSES: Final = 5
# A dial takes up to 5 s, and its place in the queue of dials a while.
PATIENCE_S: Final = 8.0
_DAY_S: Final = 86_400.0

Json = dict[str, object]


class Members(Protocol):
    """Where the members are known."""

    def members(self) -> list[Member]:
        """Every known member, this node included."""
        ...

    def member(self, node: NodeId) -> Member | None:
        """One of them."""
        ...


class Transport(Protocol):
    """What is needed of the sessions with other nodes."""

    async def reach(self, node: NodeId, address: str) -> ConnectionLost | None:
        """Find out whether a node can be dialled at an address: why not, or None."""
        ...

    def links(self) -> list[Link]:
        """All sessions that are up."""
        ...

    def flush(self) -> None:
        """Send what was queued."""
        ...


class NetcheckService:
    """All but `run` and `check` is synchronous and is called by the transport's handler."""

    def __init__(
        self,
        me: Callable[[], Certified],
        members: Members,
        transport: Transport,
        seams: Seams,
        *,
        seeds: Sequence[str],
        listening: Callable[[], Sequence[str]],
    ) -> None:
        self._me = me
        self._members = members
        self._transport = transport
        self._seams = seams
        self._seeds = seeds
        self._listening = listening
        self._failures = DialFailures()
        self._witnesses = Witnesses(transport.flush)
        self._dial_backs = DialBacks(transport.reach, self._addresses_of, seams.monotonic, transport.flush)
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Dial back for others until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    # --- what the transport reports -----------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """A session began."""
        self._failures.met(link.peer.node, link.address)

    def link_down(self, link: Link) -> None:
        """A session ended."""
        self._witnesses.link_down(link)

    def dial_failed(self, node: NodeId | None, address: str, reason: str) -> None:
        """A dial ended without a session."""
        self._failures.failed(DialFailure(node, address, reason, self._seams.monotonic()))

    def message(self, link: Link, message: DialBack | DialBackReport, stream: int) -> None:
        """A peer wants to be dialled, or has dialled."""
        match message:
            case DialBack(addresses):
                if self._nursery is not None:
                    self._dial_backs.asked(self._nursery, link, addresses, stream)
            case DialBackReport():
                self._witnesses.answered(link, message, stream)
            case _:
                assert_never(message)

    # --- what a person asks -------------------------------------------------------------------------------------

    async def check(self) -> Json:
        """Have peers dial back, look at everything, say what to mend. Takes up to PATIENCE_S."""
        addresses = self._addresses_of(self._me().node)
        links = self._transport.links()
        asked = self._seams.rng.sample(links, min(WITNESSES, len(links))) if addresses else []
        testimonies = await self._witnesses.hear(asked, addresses, PATIENCE_S)
        facts = self._facts(addresses, testimonies)
        advice = advise(facts)
        return {
            "listening": list(self._listening()),
            "addresses": [self._address(at, address, testimonies) for at, address in enumerate(addresses)],
            "asked": len(asked),
            "answered": sum(testimony.outcomes is not None for testimony in testimonies),
            "peers": [self._peer(link) for link in self._transport.links()],
            "unreached": [self._failure(failure) for failure in self._unreached()],
            "certificate_days": round(facts.certificate_days, 1),
            "issuers": facts.issuers,
            "seeds": list(self._seeds),
            "advice": [{"problem": each.problem, "text": each.text} for each in advice],
            "ok": not any(each.problem for each in advice),
        }

    def _facts(self, addresses: Sequence[str], testimonies: Sequence[Testimony]) -> Facts:
        me = self._me()
        living = [member for member in self._members.members() if member.state in LIVING]
        links = self._transport.links()
        said = [testimony.outcomes for testimony in testimonies if testimony.outcomes is not None]
        return Facts(
            addresses={address: [outcomes[at] for outcomes in said] for at, address in enumerate(addresses)},
            asked=len(testimonies),
            others=sum(member.node != me.node for member in living),
            unreached=len(self._unreached()),
            sessions=len(links),
            ahead_s={f"{self._name(node := link.peer.node)} ({to_text(node)[:8]})": link.ahead_s for link in links},
            certificate_days=(me.not_after - self._seams.wall()) / _DAY_S,
            issuers=sum(Role.ISSUER in member.certified.roles for member in living),
        )

    def _address(self, at: int, address: str, testimonies: Sequence[Testimony]) -> Json:
        return {
            "address": address,
            "dialled_by": [
                {
                    "node": to_text(testimony.link.peer.node),
                    "name": self._name(testimony.link.peer.node),
                    "outcome": "no answer" if testimony.outcomes is None else _word(testimony.outcomes[at]),
                }
                for testimony in testimonies
            ],
        }

    def _peer(self, link: Link) -> Json:
        return {
            "node": to_text(link.peer.node),
            "name": self._name(link.peer.node),
            "dialled": link.address,
            "rtt_ms": None if link.rtt_s is None else round(link.rtt_s * 1_000, 3),
            "clock_ahead_s": round(link.ahead_s, 3),
            "heard_s": round(self._seams.monotonic() - link.heard_at, 3),
        }

    def _unreached(self) -> list[DialFailure]:
        """The failures that death does not explain, and no session with whoever lives there now makes good."""
        gone = {member.node for member in self._members.members() if member.state not in LIVING}
        met = {address for link in self._transport.links() for address in self._addresses_of(link.peer.node)}
        failures = [failure for failure in self._failures.all() if failure.node not in gone]
        return [failure for failure in failures if failure.node is not None or failure.address not in met]

    def _failure(self, failure: DialFailure) -> Json:
        return {
            "node": None if failure.node is None else to_text(failure.node),
            "name": "" if failure.node is None else self._name(failure.node),
            "address": failure.address,
            "reason": failure.reason,
            "seconds_ago": round(self._seams.monotonic() - failure.at, 3),
        }

    def _addresses_of(self, node: NodeId) -> list[str]:
        member = self._members.member(node)
        return [] if member is None else list(member.core.addresses)

    def _name(self, node: NodeId) -> str:
        member = self._members.member(node)
        return to_text(node)[:8] if member is None else member.core.name


def _word(outcome: DialOutcome) -> str:
    return outcome.name.lower().replace("_", " ")
