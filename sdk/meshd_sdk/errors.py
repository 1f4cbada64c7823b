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


class UnitTimedOut(UnitFailed, TimeoutError):
    """A command ran for longer than `timeout`, and was ended. It is not tried again."""


class CommandFailed(MeshError):
    """A command that was to be checked ended with another exit code than 0."""

    def __init__(self, argv: tuple[str, ...], exit_code: int, stdout: bytes, stderr: bytes) -> None:
        super().__init__(argv, exit_code, stdout, stderr)
        self.argv = argv
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr

    def __str__(self) -> str:
        last = self.stderr.decode(errors="replace").rstrip().rpartition("\n")[2]
        program = self.argv[0] if self.argv else "the command"
        return f"{program} ended with exit code {self.exit_code}" + (f": {last}" if last else "")
