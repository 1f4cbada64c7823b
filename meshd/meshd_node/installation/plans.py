"""What is to be done, given what there is. Doing it twice does no harm."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd_node.installation.places import (
    CACHE,
    FILES,
    FOLDER,
    GPU_SETTINGS,
    KEY,
    KEY_SETTINGS,
    RUNTIME,
    SEALED_KEY,
    SOCKETS,
    UNITS,
    USERS,
)
from meshd_node.installation.steps import Step, Write, run
from meshd_node.installation.units import GPU_TEXT, KEY_TEXT, unit_texts

_OURS: Final = f"{USERS[0]}:{USERS[0]}"
_CREDENTIAL: Final = "--name=node.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What there is before an installation."""

    interpreter: str
    # A node's folder that is to become the service's, and whether there will be a node then.
    came_from: Path | None = None
    is_node: bool = False
    # Whether the key lies there as a file, and whether systemd can seal it for this machine.
    has_key_file: bool = False
    can_seal: bool = False
    has_gpus: bool = False


def installation(found: Situation) -> Iterator[Step]:
    """Write the units, make the users, settle the folder, start the node if there is one."""
    for path, text in unit_texts(found.interpreter).items():
        yield Write(path, text)
    for path in GPU_SETTINGS:
        yield Write(path, GPU_TEXT) if found.has_gpus else run("rm", "-f", path)
    yield run("systemd-sysusers", FILES["meshd.sysusers"])
    if found.came_from is not None:
        # Over an empty folder, and never into one.
        yield run("mv", "--no-target-directory", found.came_from, FOLDER)
    yield run("systemd-tmpfiles", "--create", FILES["meshd.tmpfiles"])
    yield run("systemctl", "daemon-reload")
    # One that runs was not handed its socket, or is of an older release: it drains.
    yield run("systemctl", "stop", "meshd.service")
    yield run("chown", "--recursive", "--no-dereference", _OURS, FOLDER)
    if found.has_key_file and found.can_seal:
        yield from _sealing()
    yield run("systemctl", "enable", "--now", *SOCKETS)
    yield run("systemctl", "enable", *(["--now"] if found.is_node else []), "meshd.service")


def removal(*, sealed: bool, purge: bool) -> Iterator[Step]:
    """Stop the node, remove all but its folder; with `purge` that too, and the users."""
    yield run("systemctl", "disable", "--now", "meshd.service", *SOCKETS)
    yield run("systemctl", "stop", "meshd-exec.service")
    if sealed and not purge:
        yield run("systemd-creds", "decrypt", _CREDENTIAL, SEALED_KEY, KEY)
        yield run("chmod", "0600", KEY)
        yield run("chown", _OURS, KEY)
    yield run("rm", "-f", *FILES.values(), KEY_SETTINGS, *GPU_SETTINGS, SEALED_KEY)
    for folder in sorted({path.parent for path in (KEY_SETTINGS, *GPU_SETTINGS)} - {UNITS}):
        yield run("rm", "-d", "-f", folder)
    yield run("systemctl", "daemon-reload")
    if purge:
        yield run("rm", "-rf", FOLDER, CACHE, *RUNTIME)
        for user in USERS:
            yield run("userdel", user)


def _sealing() -> Iterator[Step]:
    """Have the key lie where only this machine's systemd can read it, and hand it to the daemon alone."""
    yield run("mkdir", "-p", "-m", "0700", SEALED_KEY.parent)
    yield run("systemd-creds", "encrypt", _CREDENTIAL, KEY, SEALED_KEY)
    # Read once more before what it was made from is removed.
    yield run("systemd-creds", "decrypt", _CREDENTIAL, SEALED_KEY)
    yield Write(KEY_SETTINGS, KEY_TEXT)
    yield run("rm", KEY)
    yield run("systemctl", "daemon-reload")
