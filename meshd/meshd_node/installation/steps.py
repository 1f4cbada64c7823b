"""What an installation consists of, and how it is done."""

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, assert_never

from meshd_node.errors import MeshdError

_SAID_CHARS: Final = 300
# A daemon that is stopped drains before.
_COMMAND_S: Final = 120


class StepFailed(MeshdError):
    """A step could not be done; those before it are."""

    exit_code = 69


@dataclass(frozen=True, slots=True)
class Write:
    """Write a file that everybody may read, in the place of what is there."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """Run a program of the system."""

    argv: tuple[str, ...]


Step: TypeAlias = Write | Run


def run(*argv: str | Path) -> Run:
    """The step that runs a program."""
    return Run(tuple(map(str, argv)))


def described(step: Step) -> str:
    """The step in words that a shell would understand, more or less."""
    match step:
        case Write(path, text):
            return f"write {path} ({len(text.splitlines())} lines)"
        case Run(argv):
            return shlex.join(argv)
        case _:
            assert_never(step)


def perform(steps: Sequence[Step], tell: Callable[[str], None]) -> None:
    """Do all of it in turn, telling of each step before it is done; raise `StepFailed` at the first that fails."""
    for step in steps:
        tell(described(step))
        match step:
            case Write(path, text):
                _write(path, text)
            case Run(argv):
                _run(argv)
            case _:
                assert_never(step)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
    except OSError as error:
        raise StepFailed(f"{path} can not be written: {error.strerror}", "run this as root") from error


def _run(argv: Sequence[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603  # programs of the system, arguments of ours
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailed(f"`{shlex.join(argv)}` did not run: {error}") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:_SAID_CHARS]
        raise StepFailed(f"`{shlex.join(argv)}` failed: {said}", "mend that, then run this again")
