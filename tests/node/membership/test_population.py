"""A view that is inherited whole is the one that a peer would have told."""

import random

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import MemberChanged
from meshd_node.core.membership.events import Inherited, NewsArrived, Published
from meshd_node.core.membership.machine import Membership
from meshd_node.core.membership.population import populate
from meshd_protocol.records import Version

MEMBERS = 40


def test_an_inherited_view_is_the_one_that_a_peer_would_have_told(members_kit) -> None:
    """Members, hashes, neighbours and wishes: only the word on each member is left out."""
    kit = members_kit
    states = []
    for index in range(MEMBERS):
        node = kit.node_of(index)
        core = kit.verified(node, Version(1, 1), kit.core(index))
        states.append((core, kit.verified(node, Version(1, 2), kit.offer())))
    told, inherited = (Membership(kit.node_of(0), random.Random(1), MembershipConfig()) for _ in range(2))
    for machine in (told, inherited):
        for state in states[0]:
            machine.handle(Published(state), 5.0)

    others = [state for both in states[1:] for state in both]
    said = told.handle(NewsArrived(kit.node_of(1), [], [], others, b"", True), 7.0)
    wished = inherited.handle(Inherited(populate(states)), 7.0)

    assert wished == [effect for effect in said if not isinstance(effect, MemberChanged)]
    assert sorted(inherited.members(), key=lambda each: each.node) == sorted(told.members(), key=lambda each: each.node)
    assert inherited._roster.shelves.root == told._roster.shelves.root
    assert inherited._roster.shelves.hashes(256) == told._roster.shelves.hashes(256)
    assert inherited._roster.living() == told._roster.living()
