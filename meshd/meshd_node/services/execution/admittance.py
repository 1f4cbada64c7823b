"""Whose work this node takes: the certificate's roles, then what its operator lends to whom."""

from meshd_node.capacity.pythons import PYTHON
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.records import Manifest


class Admittance:
    """The rule of this node. Until work is caged it takes its own operator's only."""

    def __init__(self, me: Certified) -> None:
        self._me = me

    def why_not(self, owner: Certified) -> str:
        """Why nothing of this owner's is done or kept here, for its `why`; "" if it may send work."""
        if Role.WORKER not in self._me.roles:
            return "this node's certificate has no role worker"
        if Role.SUBMITTER not in owner.roles:
            return "the owner's certificate has no role submitter"
        if owner.operator != self._me.operator:
            return f"this node works for its own operator ({self._me.operator}) only, until work is caged"
        return ""

    def refusal(self, manifest: Manifest) -> str:
        """Why this work of an owner that may send some is not done here, for the owner's `why`; "" if it is."""
        if manifest.needs.python not in ("", PYTHON):
            return f"this node runs Python {PYTHON}, not {manifest.needs.python}"
        return ""
