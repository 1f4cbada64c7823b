"""One build: the installer as a child process, watched until it ends or exceeds a bound."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from meshd_node.environments import contents
from meshd_node.environments.config import EnvironmentsConfig
from meshd_node.environments.errors import EnvironmentRefused
from meshd_node.environments.uv import clean_environment, find_uv, install_command
from meshd_node.exec import offspring
from meshd_protocol.limits import MIB, REASON_CHARS_MAX
from meshd_protocol.locks import Lock

# How often a build's size is looked at. What it writes in so much time is what it may be too large by.
_LOOK_S: Final = 0.5
# A disk with less free is no place to install to.
_FREE_BYTES_MIN: Final = 512 * MIB
_SAID_BYTES: Final = 8 << 10
# What of the installer's own words fits into a reason with what is said around them.
_SAID_CHARS: Final = REASON_CHARS_MAX - 200

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds environments into empty folders. `find` names the installer's program."""

    config: EnvironmentsConfig
    find: Callable[[], Path] = find_uv

    async def build(self, lock: Lock, folder: Path, tell: Tell) -> contents.Contents:
        """Install what a lock pins into `folder` and seal it; raise `EnvironmentRefused`, saying what would do.

        What lies in `folder` but the sealed environment is removed. Cancelling ends the installer.
        """
        work = folder / "work"
        work.mkdir(parents=True)
        requirements = work / "requirements.txt"
        requirements.write_bytes(lock.encode())
        command = install_command(self.find(), requirements, folder / contents.SITE, work / "cache", self.config)
        code = await self._run(command, folder, work / "said", tell)
        if code != 0:
            raise EnvironmentRefused(_reason(work / "said", code))
        tell("checking what was installed")
        return await trio.to_thread.run_sync(_finish, folder)

    async def _run(self, command: list[str], folder: Path, said: Path, tell: Tell) -> int:
        process = _spawn(command, folder / "work", said, self.config.one_bytes)
        descriptor = os.pidfd_open(process.pid)
        try:
            while not await _ended(descriptor):
                await self._look(folder, tell)
        finally:
            os.close(descriptor)
            offspring.kill(process.pid)
            code = process.wait()
        return code

    async def _look(self, folder: Path, tell: Tell) -> None:
        size = await trio.to_thread.run_sync(contents.disk_usage, folder)
        tell(f"installing, {size // MIB} MiB so far")
        if size > self.config.one_bytes:
            raise EnvironmentRefused(
                f"the environment takes more than the {self.config.one_mib} MiB that this node keeps for one "
                "(environments.one_mib): ask for fewer packages"
            )
        if shutil.disk_usage(folder).free < _FREE_BYTES_MIN:
            raise EnvironmentRefused("the disk for environments of this node is full")


async def _ended(process: int) -> bool:
    """Whether a process has ended, after a while at the latest."""
    with trio.move_on_after(_LOOK_S):
        await trio.lowlevel.wait_readable(process)
        return True
    return False


def _spawn(command: list[str], home: Path, said: Path, file_bytes: int) -> "subprocess.Popen[bytes]":
    """Start the installer in a group of its own. From the main thread: it dies with the thread that starts it."""
    with said.open("wb") as output:
        return subprocess.Popen(  # noqa: S603  # this interpreter, and a module of ours
            [sys.executable, "-P", "-m", "meshd_node.environments.child", str(os.getpid()), str(file_bytes), *command],
            env=clean_environment(home, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=home,
            start_new_session=True,
        )


def _finish(folder: Path) -> contents.Contents:
    shutil.rmtree(folder / "work")
    site = folder / contents.SITE
    if not site.is_dir():
        raise EnvironmentRefused("the lock pins nothing for this platform: what it pins has markers for others")
    (site / ".lock").unlink(missing_ok=True)  # the installer's own
    return contents.seal(folder)


def _reason(said: Path, code: int) -> str:
    """What the installer said, as one line, and what would do."""
    with said.open("rb") as file:
        file.seek(max(0, said.stat().st_size - _SAID_BYTES))
        text = file.read(_SAID_BYTES).decode("utf-8", "replace")
    found = text[max(0, text.rfind("error:")) :]
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in found).split())
    here = f"Python {sys.version_info.major}.{sys.version_info.minor} on {sysconfig.get_platform()}"
    return (
        f"the environment can not be built for {here}: {line[:_SAID_CHARS] or f'uv ended with code {code}'}. "
        "Pin versions that have wheels for it, in an index that this node uses"
    )
