"""Looks at the machine before an installation, and refuses what would end in a service that can not run."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from meshd_node.errors import MeshdError
from meshd_node.exec.cage.closure import closed_to_others, closure
from meshd_node.identity.errors import AlreadyANode, FolderMissing
from meshd_node.identity.folder import NodeFolder
from meshd_node.installation.places import FOLDER, KEY, ROOT_KEY, SEALED_KEY
from meshd_node.installation.plans import Situation
from meshd_node.installation.units import InterpreterUnusable

# What the units hide (ProtectHome=, PrivateTmp=), whatever the modes of files there are.
_HIDDEN: Final = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108
_ELSEWHERE: Final = "install it where services can read it: python3 -m venv /opt/meshd, with a Python of the system"
# There from the start of a systemd that is the first process: sd_booted(3).
_RUNNING: Final = Path("/run/systemd/system")
_PROBE_S: Final = 20


class NotRoot(MeshdError):
    """Services of a machine are its root's."""

    exit_code = 77


class NoSystemd(MeshdError):
    """Nobody here would start the units."""

    exit_code = 69


class DaemonRuns(MeshdError):
    """A folder can not be moved, or change its owner, under a daemon."""

    exit_code = 69


class RootKeyThere(MeshdError):
    """What would be removed can not be made again."""

    exit_code = 73


def require_systemd() -> None:
    """Refuse to go on where there is no root, or no systemd to be root of."""
    if os.geteuid() != 0:
        raise NotRoot("only root installs services", "sudo, or `--dry-run` to see what would be done")
    _require_running()


def obstacles(came_from: Path | None) -> Iterator[MeshdError]:
    """What is in the way of a service on this machine, whoever asks, one thing after the other."""
    for require in (
        _require_running,
        _require_reachable,
        partial(_require_movable, came_from),
        partial(_require_idle, came_from or FOLDER),
    ):
        try:
            require()
        except MeshdError as error:
            yield error


def surveyed(came_from: Path | None, *, keep_key: bool) -> Situation:
    """What there is, be it in the way or not: see `obstacles`."""
    folder = came_from or FOLDER
    return Situation(
        interpreter=sys.executable,
        came_from=came_from,
        is_node=came_from is not None or NodeFolder(FOLDER).is_node(),
        has_key_file=(folder / KEY.name).exists(),
        can_seal=not keep_key and _can_seal(),
        has_gpus=Path("/dev/nvidiactl").exists(),
    )


def is_sealed() -> bool:
    """Whether the key lies with systemd."""
    return SEALED_KEY.exists()


def require_no_root_key() -> None:
    """Refuse to remove a mesh's root key along with a node."""
    if ROOT_KEY.exists():
        raise RootKeyThere(
            f"{ROOT_KEY} is the mesh's root key, which can not be made again",
            "move it to where nobody else can read it, then --purge",
        )


def _require_running() -> None:
    if not _RUNNING.is_dir():
        raise NoSystemd("this machine was not started by systemd", "`meshd up` runs the node in the foreground")


def _require_movable(folder: Path | None) -> None:
    if folder is None:
        return
    if NodeFolder(FOLDER).is_node():
        raise AlreadyANode(f"{FOLDER} is a node already", "leave --from out, or move that folder away")
    if not NodeFolder(folder).is_node():
        raise FolderMissing(f"there is no node in {folder}", "name the folder that `meshd init` or `join` made")


def _require_reachable() -> None:
    paths = closure()
    hidden = [path for path in paths if any(path.is_relative_to(folder) for folder in _HIDDEN)]
    closed = hidden[0] if hidden else closed_to_others(path for path in paths if not path.is_relative_to("/sys"))
    if closed is not None:
        raise InterpreterUnusable(f"no service can read {closed}, which this meshd needs", _ELSEWHERE)


def _require_idle(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(folder / "meshd.sock")) == 0:
            raise DaemonRuns(f"a daemon runs in {folder}", "stop it first: it was started by hand")


def _can_seal() -> bool:
    """Whether systemd-creds is there and has a key of its own to seal with."""
    program = shutil.which("systemd-creds")
    if program is None or os.geteuid() != 0:
        return False
    try:
        done = subprocess.run(  # noqa: S603  # a program of the system
            [program, "encrypt", "--name=probe", "-", "-"],
            input=b"probe",
            capture_output=True,
            timeout=_PROBE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
