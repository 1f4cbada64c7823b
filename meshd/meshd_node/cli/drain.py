"""`meshd drain`: have this machine's node take no new work."""

import time
from collections.abc import Callable
from typing import Any, Final

import click

from meshd_node.cli.daemon import asking
from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.cli.text import counted, printable, table_of
from meshd_protocol.messages.local import Drain

_LOOK_S: Final = 0.5
# So many looks at which nothing ran and nothing had changed: 10 s, more than another node takes to restart.
_LOOKS_MAX: Final = 20


@click.command("drain")
@click.option("--off", is_flag=True, help="Take work again.")
@click.option("--wait", is_flag=True, help="Return when nothing runs here and this node's own jobs have no units left.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(off: bool, wait: bool, as_json: bool) -> int:
    """Finish what runs and take nothing new, neither units of others nor jobs of this machine's users.

    The node stays in the mesh. A restart of the daemon ends it, and so does --off. As root or the daemon's own user.
    With --wait, exit code 1 means that a job of this node waits for what is not there; it says for what.
    """
    if off and wait:
        raise click.UsageError("--off has nothing to wait for")
    return drain(Output(), on=not off, wait=wait, as_json=as_json)


def drain(output: Output, *, on: bool, wait: bool, as_json: bool, pause: Callable[[float], None] = time.sleep) -> int:
    """Tell the daemon; ask again until it is done or nothing happens any more, if that is to be waited for."""
    with asking() as ask:
        found = table_of(ask(Drain(on)))
        if wait and not _is_done(found):
            output.note(_told(found))
            found = _wait(ask, found, pause)
    if as_json:
        output.json(found)
    else:
        output.line(_told(found))
    if not wait or _is_done(found):
        return Exit.OK
    _explain(output, found)
    return Exit.FAILED


def _wait(ask: Callable[[Drain], Any], found: dict[str, Any], pause: Callable[[float], None]) -> dict[str, Any]:
    """What the daemon says when all is done, or when nothing has run or changed for a while."""
    looks = 0
    while not _is_done(found) and looks < _LOOKS_MAX:
        pause(_LOOK_S)
        before, found = found, table_of(ask(Drain(True)))
        runs = found["running"] or found["own_running"]
        looks = 0 if runs or found["own_units"] != before["own_units"] else looks + 1
    return found


def _is_done(found: dict[str, Any]) -> bool:
    return not found["running"] and not found["own_units"]


def _told(found: dict[str, Any]) -> str:
    if found["state"] != "draining":
        return "takes work again"
    if _is_done(found):
        return "drained: nothing runs here, and this node's own jobs have no units left"
    running, own = counted(found["running"], "unit"), counted(found["own_units"], "unit")
    return f"draining, not done yet: {running} running here, {own} of this node's own jobs to end"


def _explain(output: Output, found: dict[str, Any]) -> None:
    """Say which jobs keep the drain from its end, and what a person can do about it."""
    output.note(f"nothing has run for {_LOOKS_MAX * _LOOK_S:.0f} s, and it will not end by itself:")
    for job in found["kept_by"]:
        why = "; ".join(job["why"]) or "it waits"
        output.note(f"  job {job['job']} ({printable(job['name'])}), {counted(job['units'], 'unit')}: {printable(why)}")
    output.note(
        "end a job by `meshd cancel ID`, start a node that can run it, or take work again by `meshd drain --off`"
    )
