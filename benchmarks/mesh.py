"""A mesh of real daemons on this machine: `python -m benchmarks.mesh [--nodes N] [--kill K] [--json FILE]`.

Each node has a folder and a process of its own, and lends no workers. Three figures: how long after the last daemon
said that it is ready all see all; what each costs while nothing happens; and, after SIGKILL of some at once, how long
until each of those is gone from every view that is left.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks import machine
from benchmarks.peers.meshd_nodes import Daemon, free_address
from meshd_node.cli.settings import write_settings
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.founding import Founding, init_mesh
from meshd_node.identity.inviting import Invitation, make_invite
from meshd_node.identity.joining import join_mesh
from meshd_sdk import Mesh

_LIVING = frozenset({"alive", "draining", "suspect"})
_WITHIN_S = 120.0
_PAUSE_S = 0.2
# A daemon looks around in the directory and publishes within 40 s of its start, which takes sessions with 20 others.
_SETTLED_S = 50.0


@dataclass(frozen=True)
class Figures:
    """Seconds, and CPU as a share of one core."""

    nodes: int
    killed: int
    started_in_s: float
    all_see_all_s: float
    idle_cpu_median: float
    idle_cpu_most: float
    idle_memory_median: float
    gone_median_s: float
    gone_last_s: float


class View:
    """One node's word about the mesh, over its local socket."""

    def __init__(self, daemon: Daemon, mesh: Mesh) -> None:
        self.daemon = daemon
        self._mesh = mesh
        self.node = next(peer["node"] for peer in mesh.peers() if peer["self"])

    def living(self) -> frozenset[str]:
        """Whom it holds for alive, by id."""
        return frozenset(peer["node"] for peer in self._mesh.peers() if peer["state"] in _LIVING)


def found(scratch: Path, nodes: int, running: ExitStack) -> list[Daemon]:
    """A mesh in which everybody joined through the first node; each daemon is started when it has joined."""
    folders = [scratch / f"n{number}" for number in range(nodes)]
    seed = free_address()
    install = write_settings(folders[0], seed, ())
    founding = Founding(mesh_name="bench", operator="bench", node_name="n0")
    init_mesh(NodeFolder(folders[0]), founding, time.time(), os.urandom)
    install()
    daemons = [running.enter_context(_running(folders[0]))]
    token = make_invite(NodeFolder(folders[0]), Invitation(seeds=(seed,), uses=nodes), time.time(), os.urandom)
    for number, folder in enumerate(folders[1:], 1):
        install = write_settings(folder, "127.0.0.1:0", ())
        join_mesh(NodeFolder(folder), token, f"n{number}", time.time(), os.urandom)
        install()
    for folder in folders[1:]:
        daemons.append(running.enter_context(_running(folder)))
    return daemons


@contextmanager
def _running(folder: Path) -> Iterator[Daemon]:
    daemon = Daemon(folder, 0)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
        daemon.stop()


def wait_until_all_see(views: Sequence[View], everybody: frozenset[str]) -> float:
    """Seconds from now until each of `views` holds exactly `everybody` for alive."""
    began = time.monotonic()
    waiting = list(views)
    while waiting:
        waiting = [view for view in waiting if view.living() != everybody]
        if time.monotonic() - began > _WITHIN_S:
            raise RuntimeError(f"after {_WITHIN_S:.0f} s {len(waiting)} nodes do not see all others")
    return time.monotonic() - began


def idle_cpu(daemons: Sequence[Daemon], seconds: float) -> list[float]:
    """What each daemon, with its zygote, used of one core while nobody asked it anything."""
    processes = [[process for _, process in daemon.processes()] for daemon in daemons]
    before = [_cpu_s(group) for group in processes]
    began = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    return [(_cpu_s(group) - used) / elapsed for group, used in zip(processes, before, strict=True)]


def _cpu_s(group: Sequence[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in group))


def time_deaths(views: Sequence[View], victims: Sequence[View]) -> list[float]:
    """Kill the victims at once; for each of them, the seconds until nobody of `views` holds it for alive."""
    names = {victim.node for victim in victims}
    began = time.monotonic()
    for victim in victims:
        victim.daemon.process.kill()
    gone: dict[str, float] = {}
    while len(gone) < len(names):
        held = frozenset().union(*(view.living() for view in views))
        now = time.monotonic() - began
        gone.update({name: now for name in names - held if name not in gone})
        if now > _WITHIN_S:
            raise RuntimeError(f"after {_WITHIN_S:.0f} s {len(names) - len(gone)} dead nodes are still held for alive")
        time.sleep(_PAUSE_S)
    return list(gone.values())


def measure(nodes: int, kill: int, idle_s: float, scratch: Path) -> Figures:
    """Found a mesh, look at it, leave nothing behind."""
    with ExitStack() as running:
        began = time.monotonic()
        daemons = found(scratch, nodes, running)
        started = time.monotonic() - began
        views = [View(daemon, running.enter_context(Mesh(daemon.socket))) for daemon in daemons]
        # Opening the views took a moment, which counts.
        opened = time.monotonic() - began - started
        seen = opened + wait_until_all_see(views, frozenset(view.node for view in views))
        _say(f"{nodes} daemons started in {started:.1f} s, all see all after another {seen:.1f} s")
        memory = [sum(process.memory_info().rss for _, process in daemon.processes()) for daemon in daemons]
        time.sleep(_SETTLED_S)
        cpu = idle_cpu(daemons, idle_s)
        _say(f"idle: {statistics.median(cpu):.2%} of a core each, the most {max(cpu):.2%}")
        deaths = time_deaths(views[:-kill], views[-kill:])
        _say(f"{kill} killed at once: gone from all views after {statistics.median(deaths):.1f} s (median)")
        return Figures(
            nodes,
            kill,
            started,
            seen,
            statistics.median(cpu),
            max(cpu),
            statistics.median(memory) / 1e6,
            statistics.median(deaths),
            max(deaths),
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def report(figures: Figures, facts: dict[str, str]) -> str:
    """Markdown, for RESULTS.md."""
    rows = [
        ("started, one after the other, s", f"{figures.started_in_s:.1f}"),
        ("all see all, after the last was ready, s", f"{figures.all_see_all_s:.1f}"),
        ("CPU while idle, of one core: median, most", f"{figures.idle_cpu_median:.2%}, {figures.idle_cpu_most:.2%}"),
        ("resident memory while idle, median, MB", f"{figures.idle_memory_median:.0f}"),
        (
            "gone from all views after SIGKILL: median, last, s",
            f"{figures.gone_median_s:.1f}, {figures.gone_last_s:.1f}",
        ),
    ]
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    table = [
        f"| {figures.nodes} daemons, {figures.killed} killed | |",
        "|---|---|",
        *(f"| {a} | {b} |" for a, b in rows),
    ]
    return "\n".join([*lines, "", *table])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--kill", type=int, default=10)
    parser.add_argument("--idle", type=float, default=20.0, metavar="S", help="how long idle daemons are watched")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures here")
    options = parser.parse_args()
    if not 0 < options.kill < options.nodes:
        parser.error("--kill must be at least 1 and below --nodes")
    facts = machine.facts() | {"command": "python -m benchmarks.mesh " + " ".join(sys.argv[1:])}
    with tempfile.TemporaryDirectory(prefix="meshd-mesh-") as scratch:
        figures = measure(options.nodes, options.kill, options.idle, Path(scratch))
    print(report(figures, facts))
    if options.json is not None:
        options.json.write_text(json.dumps({"facts": facts, "figures": asdict(figures)}, indent=1))


if __name__ == "__main__":
    main()
