"""`meshd up`: run this machine's node."""

import os

import click

from meshd_node.app.daemon import Started
from meshd_node.app.run import run_node
from meshd_node.cli.charter import brief
from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output


@click.command("up")
def command() -> int:
    """Run the node in the foreground. SIGTERM or Ctrl-C drains it; a second one ends it at once."""
    return up(Output())


def up(output: Output) -> int:
    """Run the node until it was told to stop; print one line when it is ready."""
    run_node(os.environ, os.getuid(), lambda started: output.line(ready_line(started)))
    return Exit.OK


def ready_line(started: Started) -> str:
    """What a node says once it is ready: who, where, and how its work is kept apart."""
    work = "lends no workers"
    if started.slots:
        work = f"{started.slots} workers, work is {started.isolation}; {brief(started.charter)}"
    return f"ready: {started.node_name} of mesh {started.mesh_name} on {', '.join(started.listening)}; {work}"
