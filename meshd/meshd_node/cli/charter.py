"""`meshd charter`: what this machine lends, in words."""

import os
from collections.abc import Mapping
from typing import Any

import click

from meshd_node.charter.words import told
from meshd_node.cli.daemon import DaemonAbsent, ask
from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.cli.text import printable, table_of
from meshd_node.config import load
from meshd_node.identity.folder import NodeFolder
from meshd_node.places import node_folder
from meshd_protocol.messages.local import Question


@click.command("charter")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> int:
    """Say what this machine lends: to whom, when, how much; and what of it holds now, by the daemon's own word.

    The rules are in the table [charter] of node.toml. A change takes effect within seconds, or at once by `meshd
    reload`. Without a daemon it is the file that is read. Exit code 1: the file can not be used.
    """
    return charter(Output(), os.environ, as_json=as_json)


def charter(output: Output, environ: Mapping[str, str], *, as_json: bool) -> int:
    """Ask the daemon, or read the file, and print."""
    try:
        found = table_of(table_of(ask(Question.STATUS))["charter"])
    except DaemonAbsent:
        found = _in_the_file(environ)
    if as_json:
        output.json(found)
    else:
        _print(output, found)
    return Exit.FAILED if found["fault"] else Exit.OK


def brief(found: dict[str, Any]) -> str:
    """What holds now, on one line."""
    own, others = found["now"]["own"], found["now"]["others"]
    if found["open"]:
        return printable(f"own operator's work: {own}; other operators': {others}")
    return printable(f"closed: {found['closed']}; until then for this machine's users only")


def _in_the_file(environ: Mapping[str, str]) -> dict[str, Any]:
    folder = node_folder(environ, os.getuid())
    operator = NodeFolder(folder).identity().name.operator
    allows = told(load(folder, environ).charter, operator)
    return {"open": None, "closed": "", "fault": "", "now": None, "allows": allows}


def _print(output: Output, found: dict[str, Any]) -> None:
    for name, text in found["allows"].items():
        output.line(f"{name:<9} {printable(text)}")
    if found["now"] is None:
        output.line("now       no daemon runs: this is what the file says")
    else:
        output.line(f"now       own operator's: {printable(found['now']['own'])}")
        output.line(f"          others': {printable(found['now']['others'])}")
    if found["fault"]:
        output.line(f"MEND      {printable(found['fault'])}; the charter before it holds")
