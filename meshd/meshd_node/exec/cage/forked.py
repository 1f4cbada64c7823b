"""Cages that begin as a fork of this process, for makers that need no other program."""

import os
import subprocess
from collections.abc import Callable
from functools import partial

from meshd_node.exec.cage import scratch_folder, threshold
from meshd_node.exec.cage.spec import CageSpec


def start(spec: CageSpec, steps: Callable[[], None], *, cwd: str, scratch: str) -> "subprocess.Popen[bytes]":
    """Fork, take steps in the child, and become `argv` there.

    Python runs between fork and exec, which wants a process of one thread, as `Maker` says.
    """
    return subprocess.Popen(  # noqa: S603  # what runs is ours
        spec.argv,
        env={**spec.environ, "HOME": scratch, "TMPDIR": scratch, "PWD": scratch},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=spec.stderr,
        cwd=cwd,
        pass_fds=spec.pass_fds,
        start_new_session=True,
        preexec_fn=steps,  # noqa: PLW1509
    )


def start_beside(spec: CageSpec, uid: int | None, steps: Callable[[], None]) -> "subprocess.Popen[bytes]":
    """Start a cage among the host's processes, in a folder of the host that is made for it.

    `OSError` if that can not be; the folder is gone then.
    """
    scratch_folder.make(spec.scratch, uid)
    scratch = str(spec.scratch)
    try:
        return start(spec, partial(_take, steps, os.getpid()), cwd=scratch, scratch=scratch)
    except OSError:
        scratch_folder.remove(spec.scratch)
        raise


def _take(steps: Callable[[], None], parent: int) -> None:
    threshold.ending_on_error(steps)
    threshold.die_with_parent(parent)
