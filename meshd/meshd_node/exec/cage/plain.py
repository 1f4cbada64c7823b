"""No cage: processes with limits, as another user where that can be. For work of this node's own operator."""

import subprocess

from meshd_node.exec.cage import forked, scratch_folder
from meshd_node.exec.cage.closure import closed_to_others
from meshd_node.exec.cage.spec import Apart, CageSpec
from meshd_node.exec.cage.threshold import Threshold
from meshd_node.exec.cage.users import end_all_of, with_room_for_others


class Plain:
    """Forks, lowers limits and gives up rights in the child, and becomes the program there."""

    name = "plain"

    def start(self, spec: CageSpec) -> "subprocess.Popen[bytes]":
        """Start the program; see `Maker`. It stays root where the daemon is and others can not read the interpreter."""
        uid = _user(spec)
        steps = Threshold(with_room_for_others(spec.limits, uid), uid, (), (), Apart.NOTHING)
        return forked.start_beside(spec, uid, steps.give_up_rights)

    def clear(self, spec: CageSpec) -> None:
        """End what still runs as the user that the program was, if it was one of its own, and remove its folder."""
        uid = _user(spec)
        if uid is not None:
            end_all_of(uid)
        scratch_folder.remove(spec.scratch)


def _user(spec: CageSpec) -> int | None:
    return None if spec.uid is None or closed_to_others(spec.read_only) else spec.uid
