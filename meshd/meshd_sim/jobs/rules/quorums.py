"""What a policy asks for, read anew from what it promises to users: no table of the owner's is believed."""

from typing import Final

from meshd_node.core.owner.config import OwnerConfig
from meshd_protocol.limits import REPLICAS_MAX
from meshd_protocol.records import Policy

_DEFAULTS: Final = OwnerConfig()


def is_default(policy: Policy) -> bool:
    """Whether the user left trust to the mesh: a trusted node's word is enough, else two that agree."""
    return policy.replicas == 0 and policy.quorum == 0


def quorum_of(policy: Policy) -> int:
    """How many voters must agree where no trusted node speaks for itself."""
    return 2 if is_default(policy) else policy.quorum or policy.replicas // 2 + 1


def copies_of(policy: Policy) -> int:
    """How many copies are started without any disagreement."""
    return max(policy.replicas, quorum_of(policy))


def trusts_single(policy: Policy) -> bool:
    """Whether one trusted node's word is a verdict."""
    return is_default(policy) or is_trusted_only(policy)


def is_trusted_only(policy: Policy) -> bool:
    """What must not run twice is not copied: it goes to trusted nodes, unless the user asked for one copy."""
    return not policy.pure and copies_of(policy) > 1


def votes_max(policy: Policy) -> int:
    """How many votes a unit may have before it is given up."""
    if not policy.pure:
        return 1
    copies = copies_of(policy)
    return max(copies, min(copies + _DEFAULTS.copies_extra, REPLICAS_MAX))
