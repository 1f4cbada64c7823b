"""`meshd drain`: have this machine's node take no new work."""

import time
from collections.abc import Callable
from typing import Any, Final

import click

from meshd_node.cli.daemon import asking
from meshd_node.cli.output import Output
from meshd_node.cli.text import counted, table_of
from meshd_protocol.messages.local import Drain

_LOOK_S: Final = 0.5


@click.command("drain")
@click.option("--off", is_flag=True, help="Take work again.")
@click.option("--wait", is_flag=True, help="Return when nothing runs here and this node's own jobs have ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(off: bool, wait: bool, as_json: bool) -> int:
    """Finish what runs and take nothing new, neither units of others nor jobs of this machine's users.

    The node stays in the mesh. A restart of the daemon ends it, and so does --off. As root or the daemon's own user.
    """
    if off and wait:
        raise click.UsageError("--off has nothing to wait for")
    return drain(Output(), on=not off, wait=wait, as_json=as_json)


def drain(output: Output, *, on: bool, wait: bool, as_json: bool, pause: Callable[[float], None] = time.sleep) -> int:
    """Tell the daemon; ask again until it is done, if that is to be waited for."""
    with asking() as ask:
        found = table_of(ask(Drain(on)))
        if wait and not _is_done(found):
            output.note(_told(found))
        while wait and not _is_done(found):
            pause(_LOOK_S)
            found = table_of(ask(Drain(on)))
    if as_json:
        output.json(found)
    else:
        output.line(_told(found))
    return 0


def _is_done(found: dict[str, Any]) -> bool:
    return not found["running"] and not found["own_units"]


def _told(found: dict[str, Any]) -> str:
    if found["state"] != "draining":
        return "takes work again"
    if _is_done(found):
        return "drained: nothing runs here, and this node's own jobs have no units left"
    running, own = counted(found["running"], "unit"), counted(found["own_units"], "unit")
    return f"draining, not done yet: {running} running here, {own} of this node's own jobs to end"
