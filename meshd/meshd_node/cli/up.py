"""`meshd up`: run this machine's node."""

import os

import click

from meshd_node.app.daemon import WORKER_MODULE, Lends, Started
from meshd_node.app.run import run_node
from meshd_node.cli.charter import brief
from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.cli.text import counted


@click.command("up")
def command() -> int:
    """Run the node in the foreground. SIGTERM or Ctrl-C drains it; a second one ends it at once."""
    return up(Output())


def up(output: Output, *, worker_module: str = WORKER_MODULE) -> int:
    """Run the node until it was told to stop; say in a line that it is ready, in another what its cage keeps.

    Whoever waits for the first may hang up after it: the second goes where the log goes.
    """
    run_node(
        os.environ,
        os.getuid(),
        lambda started: output.line(ready_line(started)),
        lambda lends: output.note(lends_line(lends)),
        worker_module=worker_module,
    )
    return Exit.OK


def ready_line(started: Started) -> str:
    """What a node says once it is ready: who, where, and what is still to come."""
    who = f"{started.node_name} of mesh {started.mesh_name} on {', '.join(started.listening)}"
    if not started.slots:
        return f"ready: {who}; it lends no workers"
    return f"ready: {who}" if started.proved else f"ready: {who}; proving its cage"


def lends_line(lends: Lends) -> str:
    """What a node says once it knows what keeps work apart: how well, and who may run what."""
    return f"lends {counted(lends.slots, 'worker')}, work is {lends.isolation}; {brief(lends.charter)}"
