"""Whose work this node takes: the certificate's roles, then what its operator lends to whom."""

from meshd_node.capacity.pythons import PYTHON
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.records import Manifest


class Admittance:
    """The rule of this node. Until work is caged it takes its own operator's only."""

    def __init__(self, me: Certified) -> None:
        self._me = me

    def admits(self, owner: Certified) -> bool:
        """Whether this owner may send work at all."""
        return Role.WORKER in self._me.roles and Role.SUBMITTER in owner.roles and owner.operator == self._me.operator

    def refusal(self, owner: Certified, manifest: Manifest) -> str:
        """Why this work is not done here, for the owner's `why`; "" if it is."""
        if Role.WORKER not in self._me.roles:
            return "this node's certificate has no role worker"
        if owner.operator != self._me.operator:
            return f"this node works for its own operator ({self._me.operator}) only, until work is caged"
        if manifest.needs.python not in ("", PYTHON):
            return f"this node runs Python {PYTHON}, not {manifest.needs.python}"
        return ""
