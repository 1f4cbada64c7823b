"""Why a connection did not come about or ended."""

from meshd_node.errors import MeshdError
from meshd_protocol.errors import CloseCode, RemoteProtocolError
from meshd_protocol.ids import NodeId, to_text
from meshd_protocol.limits import REASON_CHARS_MAX
from meshd_protocol.messages.membership import SignedRevocation
from meshd_protocol.messages.peer import Close


class ListenFailed(MeshdError):
    """An address can not be listened on."""

    exit_code = 69


class ConnectionLost(Exception):
    """The connection failed or ended without a word.

    `refused`: nobody listens at the address; `silent`: nothing came from there at all.
    """

    def __init__(self, reason: str, *, refused: bool = False, silent: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused
        self.silent = silent


class PeerClosed(Exception):
    """The peer said that it hangs up, and why. `proof` came with it, and is not verified."""

    def __init__(self, code: CloseCode, reason: str, proof: SignedRevocation | None = None) -> None:
        super().__init__(f"the peer closed ({code.name}): {reason}" if reason else f"the peer closed ({code.name})")
        self.code = code
        self.proof = proof


class NoCommonVersion(RemoteProtocolError):
    """The peer speaks no version of the protocol that we speak."""

    close_code = CloseCode.VERSION


class ClocksDiffer(RemoteProtocolError):
    """The peer's clock and ours differ by more than certificates can bear."""

    close_code = CloseCode.NOT_ALLOWED


class WrongNode(RemoteProtocolError):
    """A node answered at the address of another, or we dialled ourselves."""

    close_code = CloseCode.NOT_ALLOWED


class Superseded(RemoteProtocolError):
    """Two dials crossed, and the other connection is the session."""

    close_code = CloseCode.REPLACED


class PeerRevoked(RemoteProtocolError):
    """The certificate of `peer` was revoked; `proof` tells it so."""

    close_code = CloseCode.REVOKED

    def __init__(self, peer: NodeId, proof: SignedRevocation) -> None:
        super().__init__(f"the certificate of {to_text(peer)} is revoked")
        self.proof = proof


class PeerFloods(RemoteProtocolError):
    """The peer says more than it may, and went on for too long."""

    close_code = CloseCode.TOO_LARGE


def close_for(fault: RemoteProtocolError) -> Close:
    """What to tell a peer that is at fault."""
    proof = fault.proof if isinstance(fault, PeerRevoked) else None
    return Close(fault.close_code, str(fault)[:REASON_CHARS_MAX], proof)
