"""The texts that are installed: the files of systemd/ for this interpreter, and settings for what this machine has."""

import sysconfig
from pathlib import Path
from typing import Final

import meshd_node
from meshd_node.errors import MeshdError
from meshd_node.installation.places import FILES, SEALED_KEY

# What the files of systemd/ name, for whoever installs them by hand.
_INTERPRETER: Final = "/opt/meshd/bin/python"
# systemd takes an unquoted word for what it says, but for these.
_UNSAFE: Final = frozenset(" \t\"'\\%$;")

KEY_TEXT: Final = f"""\
# The node's key, sealed for this machine by systemd-creds.
[Service]
LoadCredentialEncrypted=node.key:{SEALED_KEY}
"""
GPU_TEXT: Final = """\
# GPUs: all device files are in sight, those of NVIDIA's driver can be opened. A cage sees its own unit's only.
[Service]
PrivateDevices=no
DeviceAllow=char-nvidia* rw
DeviceAllow=char-nvidia-uvm rw
"""


class InterpreterUnusable(MeshdError):
    """No service can run this interpreter."""

    exit_code = 78


def unit_texts(interpreter: str) -> dict[Path, str]:
    """Of each file to be installed, its text."""
    unsafe = _UNSAFE.intersection(interpreter)
    if unsafe:
        raise InterpreterUnusable(
            f"the path {interpreter} has a {min(unsafe)!r}, which systemd reads in a way of its own",
            "install meshd in another folder: python3 -m venv /opt/meshd",
        )
    folder = _folder()
    return {target: (folder / name).read_text().replace(_INTERPRETER, interpreter) for name, target in FILES.items()}


def _folder() -> Path:
    """At the top of the tree where it is edited, else where this environment keeps what is no Python."""
    edited = Path(meshd_node.__file__).parents[2] / "systemd"
    return edited if (edited / "meshd.service").exists() else Path(sysconfig.get_path("data")) / "share/meshd/systemd"
