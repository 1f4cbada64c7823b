"""Why a connection did not come about or ended."""

from meshd_node.errors import MeshdError
from meshd_protocol.errors import CloseCode, RemoteProtocolError


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
    """The peer said that it hangs up, and why."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(f"the peer closed ({code.name}): {reason}" if reason else f"the peer closed ({code.name})")
        self.code = code


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
