"""Which nodes the owner may place work on: members with a session, seen through their certificate and their offer."""

from typing import Protocol

from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.core.owner.events import ExecutorView
from meshd_node.net.link import Link
from meshd_node.services.jobs.service import JobService
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Phase


class Members(Protocol):
    """Where the members are known."""

    def member(self, node: NodeId) -> Member | None:
        """What is known of a node."""
        ...


class Executors:
    """Tells the job service whom it may use. A node becomes usable when both its state and a session are here."""

    def __init__(self, me: Certified, members: Members, jobs: JobService) -> None:
        self._me = me
        self._members = members
        self._jobs = jobs
        self._links: dict[NodeId, Link] = {}

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

    def member_changed(self, member: Member) -> None:
        """A member is new, or differs from before."""
        link = self._links.get(member.node)
        if member.offer is not None and (link is not None or member.node == self._me.node):
            self._jobs.executor_changed(self._view(member, 0.0 if link is None else link.rtt_s or 0.0))

    def _view(self, member: Member, rtt_s: float) -> ExecutorView:
        offer, certified = member.offer, member.certified
        assert offer is not None, "a member without an offer is no executor yet"
        same_operator = certified.operator == self._me.operator
        return ExecutorView(
            node=member.node,
            operator=certified.operator,
            trusted=same_operator or Role.TRUSTED in certified.roles,
            accepts=(
                Role.WORKER in certified.roles
                and member.state is MemberState.ALIVE
                and offer.phase is Phase.ALIVE
                and offer.slots > 0
                and (same_operator or not offer.own_operator_only)
            ),
            offer=offer,
            rtt_s=rtt_s,
        )
