"""Every error of the SDK: what happened, and in its text what to do next."""

from concurrent.futures import BrokenExecutor

from meshd_protocol.messages.local import DenialCode


class MeshError(Exception):
    """Root of all errors that this package raises by itself; what a unit raised arrives as its own type."""


class MeshUnavailable(MeshError):
    """No daemon answers."""


class MeshLost(MeshUnavailable, BrokenExecutor):
    """The daemon went away, or broke the protocol, while something was expected of it. The next call connects anew."""


class MeshRefused(MeshError):
    """The daemon does not do what it was asked; `code` says why in a word, the text in a sentence."""

    def __init__(self, reason: str, code: DenialCode) -> None:
        super().__init__(reason, code)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class MeshClosed(MeshError, RuntimeError):
    """Used after its `shutdown`, after the interpreter began to end, or in a fork of the process that made it."""


class UnitFailed(MeshError):
    """No result of a unit could be had; the text says what was tried."""
