"""What of a peer's rumours and states is true and new: all that is signed is checked here, within a budget per peer."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

from meshd_node.core.membership import sifting
from meshd_node.core.membership.effects import Member
from meshd_node.core.membership.events import VerifiedClaim, VerifiedRevocation, VerifiedState
from meshd_node.core.membership.sifting import is_newer, may_count
from meshd_node.seams import Seams
from meshd_node.services.budget import PeerBudgets
from meshd_node.services.membership.claims import ClaimChecks
from meshd_node.services.membership.states import OverBudget, StateChecks
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import CertificateOutOfDate
from meshd_protocol.ids import NodeId
from meshd_protocol.limits import REVOCATIONS_MAX
from meshd_protocol.messages.membership import SignedClaim, SignedRevocation, SignedState
from meshd_protocol.records import Slot, Version
from meshd_protocol.revocations import read_revocation, verify_revocation

# One peer may keep us busy with signatures of states for 27 ms of a second; a newcomer's first 2,000 are not delayed.
STATE_CHECKS_PER_S: Final = 256
STATE_CHECKS_BURST: Final = 2_048
# Claims and revocations are urgent, and must not wait because somebody has many states to tell.
URGENT_CHECKS_PER_S: Final = 128
URGENT_CHECKS_BURST: Final = 512
# The body's signature, and its issuer's certificate.
_REVOCATION_COST: Final = 2


class View(sifting.View, Protocol):
    """What membership knows already, so that it is not checked again."""

    def member(self, node: NodeId) -> Member | None:
        """What is known of a node."""
        ...


class News:
    """Checks what peers pass on. Raises `RemoteProtocolError` only for what no honest node passes on."""

    def __init__(self, me: Certified, root_key: bytes, view: View, seams: Seams) -> None:
        self._me = me
        self._root_key = root_key
        self._view = view
        self._seams = seams
        self._state_checks = StateChecks(me.mesh, root_key, seams.wall)
        self._claim_checks = ClaimChecks(me.mesh, seams.wall)
        self._state_budgets = PeerBudgets(STATE_CHECKS_PER_S, STATE_CHECKS_BURST)
        self._urgent_budgets = PeerBudgets(URGENT_CHECKS_PER_S, URGENT_CHECKS_BURST)
        self._peers: dict[NodeId, None] = {}
        self._revocations: dict[bytes, None] = {}

    def greet(self, peer: NodeId) -> None:
        """A session began."""
        self._peers[peer] = None

    def forget(self, peer: NodeId) -> None:
        """The session ended."""
        self._peers.pop(peer, None)

    def peers(self) -> list[NodeId]:
        """Everybody with a session."""
        return list(self._peers)

    def known(self, revocations: list[VerifiedRevocation]) -> None:
        """These are proved, and need no further check."""
        self._revocations.update((each.signed.body, None) for each in revocations)
        while len(self._revocations) > REVOCATIONS_MAX:
            del self._revocations[next(iter(self._revocations))]

    # --- revocations ----------------------------------------------------------------------------------------------

    def revocations(self, sender: NodeId, signed: list[SignedRevocation]) -> list[VerifiedRevocation]:
        """Return those that are new. What is over the sender's budget comes again with the next repair."""
        spend = self._spend(sender, urgent=True)
        verified = [each for each in map(partial(self._revocation, spend), signed) if each is not None]
        self.known(verified)
        return verified

    def _revocation(self, spend: Callable[[int], bool], signed: SignedRevocation) -> VerifiedRevocation | None:
        if signed.body in self._revocations:
            return None
        try:
            read_revocation(self._root_key, signed, self._seams.wall())
            if not spend(_REVOCATION_COST):
                return None
            return VerifiedRevocation(signed, verify_revocation(self._root_key, signed, self._seams.wall()))
        except CertificateOutOfDate:
            return None  # clocks differ

    # --- states ---------------------------------------------------------------------------------------------------

    def states(self, sender: NodeId, states: list[SignedState]) -> tuple[list[VerifiedState], list[NodeId]]:
        """Return what is newer than what is held; also name the publishers whose certificate has not come yet."""
        spend = self._spend(sender, urgent=False)
        proved: dict[NodeId, Certified] = {}
        newest: dict[tuple[NodeId, Slot], Version] = {}  # of this message: one state may be in it 128 times
        verified: list[VerifiedState] = []
        unproved: dict[NodeId, None] = {}
        for signed in states:
            state = self._state_checks.read(signed)
            publisher = NodeId(state.publisher)
            if not is_newer(self._view, state, newest.get((publisher, state.slot))):
                continue
            known = proved.get(publisher) or self._certified(publisher)
            if known is None and state.slot is Slot.OFFER:
                unproved[publisher] = None
                continue
            try:
                checked = self._state_checks.check(signed, state, sender, known, spend)
            except OverBudget:
                break
            if checked is not None:
                proved[publisher] = checked.certified
                newest[publisher, state.slot] = state.version
                verified.append(checked)
        return verified, list(unproved)

    # --- claims ---------------------------------------------------------------------------------------------------

    def claims(self, sender: NodeId, claims: list[SignedClaim], fresh: list[VerifiedState]) -> list[VerifiedClaim]:
        """Return those of nodes that may accuse, and that were not heard yet. `fresh` states came with them."""
        spend = self._spend(sender, urgent=True)
        proved = {NodeId(each.state.publisher): each.certified for each in fresh}
        return list(self._claims(claims, proved, spend))

    def _claims(
        self, claims: list[SignedClaim], proved: dict[NodeId, Certified], spend: Callable[[int], bool]
    ) -> Iterator[VerifiedClaim]:
        for signed in claims:
            claim = self._claim_checks.read(signed)
            if not may_count(self._view, claim):
                continue
            accuser = NodeId(claim.accuser)
            known = proved.get(accuser) or self._certified(accuser)
            if known is None or not self._claim_checks.may_speak(known):
                continue
            if not spend(1):
                return
            yield self._claim_checks.check(signed, claim, known)

    def _certified(self, node: NodeId) -> Certified | None:
        if node == self._me.node:
            return self._me
        member = self._view.member(node)
        return None if member is None else member.certified

    def _spend(self, sender: NodeId, *, urgent: bool) -> Callable[[int], bool]:
        budgets = self._urgent_budgets if urgent else self._state_budgets
        return partial(budgets.spend, sender, now=self._seams.monotonic())
