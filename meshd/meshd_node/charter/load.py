"""How many CPUs others than meshd keep busy: what the machine's CPUs did, without what this daemon's processes did."""

import os
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

# What is looked at: the last minute, in so many steps.
_WINDOW_S: Final = 60.0
_STEP_S: Final = 5.0
# The least that is worth a judgement.
_KNOWN_S: Final = 10.0
# Fields of the first line of /proc/stat that count as busy: user, nice, system, irq, softirq, steal.
_BUSY: Final = (1, 2, 3, 6, 7, 8)
# Of /proc/PID/stat, behind the name in brackets: the parent, and utime, stime, cutime, cstime.
_PARENT: Final = 1
_TIMES: Final = slice(11, 15)


class _Sample(NamedTuple):
    at: float
    busy_s: float
    own_s: float


class OthersLoad:
    """Samples the CPUs of this machine every some seconds; one sample costs about 10 µs for each process."""

    def __init__(
        self,
        root: Path,
        monotonic: Callable[[], float],
        own: Callable[[], Iterable[int]] = lambda: (os.getpid(),),
        ticks_per_s: int = os.sysconf("SC_CLK_TCK"),
    ) -> None:
        """`own` are the processes that count as meshd's, with all that they started."""
        self._proc = root / "proc"
        self._monotonic = monotonic
        self._own = own
        self._ticks_per_s = ticks_per_s
        self._samples: deque[_Sample] = deque()

    def busy_cpus(self) -> float | None:
        """CPUs in use by others, on average over the last minute; None before that is known, or if it can not be."""
        try:
            return self._average()
        except OSError:
            return None  # a service may be shown nothing of /proc but its own processes

    def _average(self) -> float | None:
        now = self._monotonic()
        if not self._samples or now - self._samples[-1].at >= _STEP_S:
            self._samples.append(_Sample(now, self._busy_s(), self._own_s()))
        while now - self._samples[0].at > _WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()
        first, last = self._samples[0], self._samples[-1]
        elapsed = last.at - first.at
        if elapsed < _KNOWN_S:
            return None
        return max(0.0, (last.busy_s - first.busy_s) - (last.own_s - first.own_s)) / elapsed

    def _busy_s(self) -> float:
        words = (self._proc / "stat").read_text().partition("\n")[0].split()
        return sum(int(words[field]) for field in _BUSY if field < len(words)) / self._ticks_per_s

    def _own_s(self) -> float:
        """Time of our processes that live, and of those that ended and were waited for: no end takes any of it away."""
        parents: dict[int, int] = {}
        ticks: dict[int, int] = {}
        for folder in self._proc.iterdir():
            if folder.name.isdecimal():
                try:
                    words = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                except OSError:
                    continue  # it ended meanwhile
                pid = int(folder.name)
                parents[pid], ticks[pid] = int(words[_PARENT]), sum(map(int, words[_TIMES]))
        ours = _descendants(set(self._own()), parents)
        return sum(ticks.get(pid, 0) for pid in ours) / self._ticks_per_s


def _descendants(roots: set[int], parents: dict[int, int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    ahead = list(roots)
    while ahead:
        pid = ahead.pop()
        if pid not in found:
            found.add(pid)
            ahead += children.get(pid, [])
    return found
