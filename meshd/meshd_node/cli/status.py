"""`meshd status`: what this machine's daemon says of itself."""

import time

import click

from meshd_node.cli.charter import brief
from meshd_node.cli.daemon import ask
from meshd_node.cli.output import Output
from meshd_node.cli.text import counted, printable, table_of
from meshd_protocol.messages.local import Question


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> int:
    """Show this node: its mesh, its state, its certificate."""
    return status(Output(), as_json=as_json)


def status(output: Output, *, as_json: bool) -> int:
    """Ask the daemon and print."""
    found = table_of(ask(Question.STATUS))
    if as_json:
        output.json(found)
        return 0
    days = round((float(str(found["certificate_expires"])) - time.time()) / 86_400)
    output.line(f"node      {found['name']} ({found['node']})")
    output.line(f"mesh      {found['mesh_name']} ({found['mesh']})")
    output.line(f"state     {found['state']}, {counted(found['peers'], 'other node')} alive")
    output.line(f"operator  {found['operator']}")
    output.line(f"roles     {', '.join(found['roles'])}")
    if found["voters"] == "nodes":
        output.line("trust     one operator only: replicas are compared between nodes, not between operators")
    output.line(f"work      {found['isolation']}")
    for each in found["environments"]:
        packages = counted(each["packages"], "package")
        output.line(f"packages  {each['digest'][:12]}, {packages}: {each['state']} ({each['seconds']:g} s)")
    output.line(f"charter   {brief(found['charter'])}")
    if fault := found["charter"]["fault"]:
        output.line(f"MEND      {printable(fault)}; the charter before it holds")
    output.line(f"version   {found['version']}, certificate valid for {counted(days, 'day')}")
    return 0
