"""Who asked for work: a node and a local user on it. Cages, quotas, cancel and attach go by this."""

from typing import NamedTuple

from meshd_protocol.ids import NodeId


class Submitter(NamedTuple):
    """A local user of a node, as the kernel named them to that node's daemon."""

    node: NodeId
    uid: int
