"""Every error of the protocol: its type says whose fault it is and what to answer. Spec: 02-errors.md."""

from enum import IntEnum
from typing import ClassVar


class CloseCode(IntEnum):
    """Why a connection is closed, as told to the other side."""

    NORMAL = 0x00
    PROTOCOL = 0x01
    TOO_LARGE = 0x02
    BAD_SIGNATURE = 0x03
    NOT_ALLOWED = 0x04
    WRONG_MESH = 0x05
    VERSION = 0x06
    REPLACED = 0x07
    GOING_AWAY = 0x08
    TIMEOUT = 0x09
    REVOKED = 0x0A


class ProtocolError(Exception):
    """Root of all errors that this package raises."""


class LocalProtocolError(ProtocolError):
    """We were about to break the protocol: a bug or a bad argument on our side. Nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol. `close_code` is what to tell it before hanging up."""

    close_code: ClassVar[CloseCode] = CloseCode.PROTOCOL


class FrameTooLarge(RemoteProtocolError):
    """A frame, or the message it belongs to, exceeds its bound."""

    close_code = CloseCode.TOO_LARGE


class UnknownKind(RemoteProtocolError):
    """A frame's kind does not exist on this channel."""


class MalformedMessage(RemoteProtocolError):
    """A message's body is not what its kind says: not MessagePack, a missing field, a value out of bounds."""


class UnexpectedMessage(RemoteProtocolError):
    """A well-formed message at a moment when it makes no sense."""


class BadSignature(RemoteProtocolError):
    """A signature does not cover what it came with."""

    close_code = CloseCode.BAD_SIGNATURE


class CertificateRefused(RemoteProtocolError):
    """A certificate chain proves nothing here: wrong root, expired, or more granted than its issuer may grant."""

    close_code = CloseCode.NOT_ALLOWED


class CertificateOutOfDate(CertificateRefused):
    """A certificate has ended or has not begun, by this machine's clock."""


class NotAllowed(RemoteProtocolError):
    """The peer lacks the role for what it asks."""

    close_code = CloseCode.NOT_ALLOWED


class MalformedId(ProtocolError):
    """A text is not an id."""


class MalformedToken(ProtocolError):
    """A text is not an invite token: mistyped, cut short, or of another version."""


class ValueRefused(ProtocolError):
    """A value can not travel by the safe codec; the message says which one and what to do."""


class MalformedValue(RemoteProtocolError):
    """Bytes that claim to be a value are not one, or not in their one canonical form."""
