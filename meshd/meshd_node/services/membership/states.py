"""What a signed state must pass before membership sees it, the cheap checks first. Spec: 10-membership.md."""

from collections.abc import Callable
from dataclasses import dataclass

from meshd_node.core.membership.events import VerifiedState
from meshd_protocol.certificates import Certified, verify_node_chain
from meshd_protocol.errors import CertificateOutOfDate, CertificateRefused, MalformedMessage
from meshd_protocol.ids import MeshId, NodeId
from meshd_protocol.limits import CLOCK_SKEW_S
from meshd_protocol.messages.membership import SignedState
from meshd_protocol.records import Core, Offer, Slot, State, decode_record
from meshd_protocol.signing import Domain, Signed, verify

# Signature checks, at 107 us each: the state's own, and two for a chain.
CHECK_COST = 1
CHAIN_COST = 2


class OverBudget(Exception):
    """The sender has used up the checks that it may make us do. The exchange brings the state again later."""


@dataclass(frozen=True, slots=True)
class StateChecks:
    """Checks the states of one mesh. Raises `RemoteProtocolError` only for what no honest node passes on."""

    mesh: MeshId
    root_key: bytes
    wall: Callable[[], float]

    def read(self, signed: SignedState) -> State:
        """Read a state's envelope; nothing in it is proved yet."""
        state = decode_record(State, signed.body)
        if state.mesh != self.mesh:
            raise MalformedMessage("a state of another mesh")
        return state

    def check(
        self, signed: SignedState, state: State, sender: NodeId, known: Certified | None, spend: Callable[[int], bool]
    ) -> VerifiedState | None:
        """Return the state if all of it holds, None if that can not be told and need not be the sender's fault.

        `known` is what is proved of its publisher already. Raises `OverBudget` when `spend` refuses.
        """
        try:
            content = _content(state)
            certified = self._chain(content, known, spend) if isinstance(content, Core) else known
        except (MalformedMessage, CertificateOutOfDate):
            # Peers of a later release pass on in good faith what we can not read yet, and clocks differ.
            if sender == state.publisher:
                raise
            return None
        if certified is None or certified.not_after + CLOCK_SKEW_S < self.wall():
            return None
        if certified.node != state.publisher:
            raise CertificateRefused("a state with the certificate of another node")
        if not spend(CHECK_COST):
            raise OverBudget
        verify(certified.key, Domain.STATE, Signed(signed.body, signed.signature))
        return VerifiedState(signed, state, content, certified)

    def _chain(self, core: Core, known: Certified | None, spend: Callable[[int], bool]) -> Certified:
        if known is not None and known.chain == tuple(core.certificates):
            return known
        if not spend(CHAIN_COST):
            raise OverBudget
        return verify_node_chain(self.root_key, core.certificates, self.wall())


def _content(state: State) -> Core | Offer:
    return decode_record(Core, state.content) if state.slot is Slot.CORE else decode_record(Offer, state.content)
