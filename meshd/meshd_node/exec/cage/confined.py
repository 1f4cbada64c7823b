"""Cages without namespaces: another user where that can be, Landlock, the filter of syscalls, limits.

Work sees which processes run and how large the machine is; it reaches nobody's files, no network and no socket.
"""

import subprocess
from typing import Final

from meshd_node.errors import CageError
from meshd_node.exec.cage import forked, scratch_folder
from meshd_node.exec.cage.closure import closed_to_others
from meshd_node.exec.cage.spec import Apart, CageSpec, checked_user
from meshd_node.exec.cage.threshold import Threshold
from meshd_node.exec.cage.users import end_all_of, with_room_for_others

# What the interpreter and numerical libraries ask of the system. What a process keeps to itself (its environment,
# memory, descriptors) is closed in /proc by Landlock even for its own user.
_READABLE: Final = ("/proc",)
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


class Confined:
    """Forks, crosses the threshold in the child, and becomes the program there."""

    name = "confined"

    def start(self, spec: CageSpec) -> "subprocess.Popen[bytes]":
        """Start a cage; see `Maker`."""
        uid = checked_user(spec)
        closed = closed_to_others(spec.read_only) if uid is not None else None
        if closed is not None:
            raise CageError(f"a cage without namespaces runs as another user, who can not come to {closed}")
        steps = Threshold(
            with_room_for_others(spec.limits, uid),
            uid,
            readable=(*map(str, spec.read_only), *_READABLE),
            writable=(*map(str, spec.devices), *_DEVICES, str(spec.scratch)),
            apart=Apart.NOTHING if uid is None else Apart.USER,
        )
        return forked.start_beside(spec, uid, steps.cross)

    def clear(self, spec: CageSpec) -> None:
        """End what still runs as the cage's user, and remove its folder.

        Of a cage that has no user of its own, only a cgroup knows which processes are left.
        """
        if spec.uid is not None:
            end_all_of(spec.uid)
        scratch_folder.remove(spec.scratch)
