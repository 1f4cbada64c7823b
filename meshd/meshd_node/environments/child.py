"""Becomes the installer: a process that dies with the daemon, waits for everybody else, and fills no disk."""

import os
import resource
import sys
from contextlib import suppress

import psutil

from meshd_node.exec import offspring


def main() -> None:
    """Begin: the daemon's pid, the largest file in bytes, then the program and its arguments."""
    _, daemon, file_bytes, *command = sys.argv
    offspring.die_with_parent()
    if os.getppid() != int(daemon):
        return
    os.umask(0o022)
    # The daemon's unit of systemd keeps it and its children from changing priorities at all.
    with suppress(PermissionError):
        os.nice(19)
    with suppress(psutil.Error, OSError):  # some kernels have no such class
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_bytes), int(file_bytes)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
