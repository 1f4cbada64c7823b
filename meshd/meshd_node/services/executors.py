"""Which nodes the owner may place work on: members with a session, and those it asks for one while units wait."""

import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec import structs

from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.core.owner.events import ExecutorView
from meshd_node.core.owner.reach import Reach
from meshd_node.net.link import Link
from meshd_node.seams import Seams
from meshd_node.services.jobs.service import JobService
from meshd_node.services.outflow import Outflow
from meshd_node.services.timer import Timer
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Offer, Phase

# Units that the nodes at hand run at once are gone by then: nobody is asked for their sake.
_FIRST_LOOK_S: Final = 0.05
_LOOK_S: Final = 0.5


class Members(Protocol):
    """Where the members are known."""

    def member(self, node: NodeId) -> Member | None:
        """What is known of a node."""
        ...


class Dials(Protocol):
    """Where sessions come from."""

    def dial(self, node: NodeId, addresses: Sequence[str]) -> None:
        """Try for a session; answer with `link_up` or `dial_failed`."""
        ...


class Executors:
    """Tells the job service whom it may use. A node becomes usable when both its state and a session are here.

    A mesh is no full mesh of sessions: while units wait that more nodes could run, some of those are asked for one.
    """

    def __init__(
        self,
        me: Certified,
        members: Members,
        jobs: JobService,
        reach: Reach,
        dials: Dials,
        seams: Seams,
        outflow: Outflow,
        own_offer: Callable[[], Offer],
    ) -> None:
        """`own_offer` is what this machine lends its own users, who are not bound by when others may have it."""
        self._me = me
        self._own_offer = own_offer
        self._members = members
        self._jobs = jobs
        self._reach = reach
        self._dials = dials
        self._seams = seams
        self._links: dict[NodeId, Link] = {}
        self._willing: dict[NodeId, ExecutorView] = {}  # those that can be dialled and would take our work
        self._look_at = math.inf
        self.timer = Timer(self._look, outflow.flush)
        jobs.on_submitted = self._units_came

    # --- what the transport and membership report -----------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """A session began."""
        self._links[link.peer.node] = link
        member = self._members.member(link.peer.node)
        if member is not None:
            self.member_changed(member)

    def link_down(self, link: Link) -> None:
        """A session ended; the job service learns of it by itself."""
        if self._links.get(link.peer.node) is link:
            del self._links[link.peer.node]
            self._reach.ended(link.peer.node)

    def dial_failed(self, node: NodeId) -> None:
        """A dial ended without a session."""
        self._reach.failed(node, self._seams.monotonic())

    def member_changed(self, member: Member) -> None:
        """A member is new, or differs from before."""
        node = member.node
        if node == self._me.node and member.offer is not None:
            member = structs.replace(member, offer=self._own_offer())
        if node != self._me.node:
            self._willing.pop(node, None)
            if member.core.addresses and self._accepts(member):
                self._willing[node] = self._view(member, 0.0)
        link = self._links.get(node)
        if member.offer is not None and (link is not None or node == self._me.node):
            self._jobs.executor_changed(self._view(member, 0.0 if link is None else link.rtt_s or 0.0))

    def keeps(self, node: NodeId) -> bool:
        """Whether the session with a node may be needed for units that have not ended."""
        return self._reach.holds(node)

    # --- while units wait -----------------------------------------------------------------------------------------

    def _units_came(self) -> None:
        if self._look_at == math.inf:
            self._set(_FIRST_LOOK_S)

    def _set(self, pause_s: float) -> None:
        self._look_at = self._seams.monotonic() + pause_s
        self.timer.set(self._look_at)

    def _look(self) -> None:
        """See whether more nodes would help, and look again until all units have ended."""
        if not self._jobs.owner.busy():
            self._look_at = math.inf
            self._reach.rest()
            return
        now = self._seams.monotonic()
        demands = self._jobs.owner.demands(now)
        if demands:
            for node in self._reach.choose(demands, self._willing, self._links, now):
                member = self._members.member(node)
                assert member is not None, "whoever is willing is a member, and its last word is known here"
                self._dials.dial(node, member.core.addresses)
        self._set(_LOOK_S)

    # --- members as executors -------------------------------------------------------------------------------------

    def _accepts(self, member: Member) -> bool:
        offer, certified = member.offer, member.certified
        return (
            offer is not None
            and Role.WORKER in certified.roles
            and member.state is MemberState.ALIVE
            and offer.phase is Phase.ALIVE
            and offer.slots > 0
            and (certified.operator == self._me.operator or not offer.own_operator_only)
        )

    def _view(self, member: Member, rtt_s: float) -> ExecutorView:
        assert member.offer is not None, "a member without an offer is no executor yet"
        certified = member.certified
        return ExecutorView(
            node=member.node,
            operator=certified.operator,
            trusted=certified.operator == self._me.operator or Role.TRUSTED in certified.roles,
            accepts=self._accepts(member),
            offer=member.offer,
            rtt_s=rtt_s,
        )
