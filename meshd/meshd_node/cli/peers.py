"""`meshd peers`: the members of the mesh as this node sees them."""

import click

from meshd_node.cli.daemon import ask
from meshd_node.cli.output import Output
from meshd_node.cli.text import ago, number, rows_of, size
from meshd_protocol.messages.local import Question


@click.command("peers")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> int:
    """List the members of the mesh, this node among them."""
    return peers(Output(), as_json=as_json)


def peers(output: Output, *, as_json: bool) -> int:
    """Ask the daemon and print."""
    found = rows_of(ask(Question.PEERS))
    if as_json:
        output.json(found)
        return 0
    columns = (
        "NODE",
        "NAME",
        "STATE",
        "SINCE",
        "OPERATOR",
        "ROLES",
        "CPUS",
        "MEMORY",
        "GPUS",
        "LOAD",
        "RTT",
        "VERSION",
    )
    rows = [
        (
            peer["node"],
            peer["name"] + (" (this node)" if peer["self"] else ""),
            peer["state"],
            ago(peer["since"]),
            peer["operator"],
            ", ".join(peer["roles"]),
            number(peer["cpus"]),
            size(peer["memory_bytes"]),
            str(len(peer["gpus"])),
            "-" if peer["load"] is None else f"{peer['load']:.0%}",
            number(peer["rtt_ms"], " ms"),
            peer["version"],
        )
        for peer in sorted(found, key=lambda peer: (not peer["self"], peer["name"]))
    ]
    output.table(columns, rows)
    return 0
