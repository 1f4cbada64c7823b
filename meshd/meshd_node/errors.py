"""What can go wrong for the person who runs a node: one line of text, what to do next, and an exit code (sysexits)."""

from typing import ClassVar


class MeshdError(Exception):
    """Root of all errors that a command shows as one line. `hint` says what to do next."""

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(MeshdError):
    """A setting that can not be used; the text names its place."""

    exit_code = 78


class CageError(MeshdError):
    """A cage that can not be made here; the text says what it wants."""

    exit_code = 69
