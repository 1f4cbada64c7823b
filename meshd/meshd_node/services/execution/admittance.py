"""Whose work this node takes, and which: certificates, the charter, and what keeps work apart here."""

from typing import Protocol

from meshd_node.capacity.pythons import PYTHON
from meshd_node.charter.allowance import Allowance, Cage, allowance
from meshd_node.charter.config import CharterConfig
from meshd_protocol.certificates import Certified
from meshd_protocol.limits import MIB
from meshd_protocol.records import Needs


class CharterNow(Protocol):
    """The charter that holds now."""

    @property
    def charter(self) -> CharterConfig:
        """What the operator says."""
        ...

    @property
    def closed(self) -> str:
        """Why others' work does not run now; "" if it may."""
        ...


class CageNow(Protocol):
    """Where it is known what keeps work apart."""

    def __call__(self) -> Cage:
        """What this node's cages keep, as far as it is known."""
        ...


class Admittance:
    """The rule of this node, as it is now."""

    def __init__(self, me: Certified, charter: CharterNow, cage: CageNow) -> None:
        self._me = me
        self._now = charter
        self._cage = cage

    @property
    def grace_s(self) -> float:
        """How long what runs may go on when it is not allowed any more."""
        return self._now.charter.grace_s

    def allowance(self, owner: Certified) -> Allowance:
        """What an owner may have run here now."""
        return allowance(self._now.charter, self._now.closed, self._cage(), self._me, owner)

    def refusal(self, allowed: Allowance, needs: Needs) -> str:
        """Why work of an owner that may have `allowed` is not done here, for the owner's `why`; "" if it is."""
        if reason := allowed.why_not(needs.runtime):
            return reason
        if needs.python not in ("", PYTHON):
            return f"this node runs Python {PYTHON}, not {needs.python}"
        scratch_bytes = self._now.charter.scratch_bytes
        if scratch_bytes and needs.scratch_bytes > scratch_bytes:
            return f"needs {needs.scratch_bytes // MIB} MiB of scratch space, this node lends {scratch_bytes // MIB}"
        return ""
