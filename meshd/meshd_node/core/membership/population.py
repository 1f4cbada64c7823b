"""All members of a mesh, laid out once for many views: how simulated meshes that have lived for long begin."""

from collections.abc import Sequence

from meshd_node.core.membership.events import Population, VerifiedState
from meshd_node.core.membership.shelves import SHELVES
from meshd_protocol.ids import NodeId


def populate(states: Sequence[tuple[VerifiedState, VerifiedState]]) -> Population:
    """Lay out the `core` and the `offer` of each member, in the order in which they are to be on their shelves."""
    shelves: list[list[tuple[NodeId, VerifiedState, VerifiedState]]] = [[] for _ in range(SHELVES)]
    hashes, root = [0] * SHELVES, 0
    for core, offer in states:
        node = core.state.publisher
        shelves[node[0]].append((node, core, offer))
        value = core.hash ^ offer.hash
        hashes[node[0]] ^= value
        root ^= value
    nodes = [core.state.publisher for core, _ in states]
    return Population(frozenset(nodes), sorted(nodes), shelves, hashes, root)
