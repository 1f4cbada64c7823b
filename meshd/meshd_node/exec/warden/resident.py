"""A worker as its warden knows it: the gate that it stands at first, and the group that bounds it from there on."""

import os
import signal
from dataclasses import dataclass

from meshd_node.exec.cage.cgroups import Group
from meshd_node.exec.control import Bounds, Ended
from meshd_node.exec.warden.gate import Gate
from meshd_protocol.limits import MIB


@dataclass(slots=True)
class Resident:
    """One worker of a cage."""

    number: int
    bounds: Bounds
    gate: Gate | None = None
    group: Group | None = None
    killed_at: float | None = None

    def admit(self, cage: Group) -> None:
        """Put whoever stands at the gate into a group of its own within the cage's, and let it pass.

        Raise `OSError` or `CageError` if that can not be; the gate is closed in any case.
        """
        assert self.gate is not None, "who has no gate is not at it"
        try:
            pid = self.gate.who()
            if pid:
                name, bounds = f"worker-{self.number}", self.bounds
                self.group = cage.make(name, memory_bytes=bounds.memory_bytes, cpu_milli=bounds.cpu_milli)
                self.group.add(pid)
                self.gate.open()
        finally:
            self.close_gate()

    def close_gate(self) -> None:
        """Have no gate any more."""
        if self.gate is not None:
            self.gate.close()
            self.gate = None

    def kill(self, now: float) -> None:
        """End it and all that came of it, where the kernel knows what did."""
        self.killed_at = self.killed_at or now
        if self.group is not None:
            self.group.kill()

    def breach(self, ended: Ended) -> str:
        """Which limit has ended it, in words; empty if none did."""
        killed = ended.status >= 0 and os.WIFSIGNALED(ended.status) and os.WTERMSIG(ended.status) == signal.SIGKILL
        if killed and self.group is not None and self.group.oom_kills():
            return f"the unit used more than its {self.bounds.memory_bytes // MIB} MiB of memory"
        return ""
