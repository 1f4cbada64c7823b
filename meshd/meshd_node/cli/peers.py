"""`meshd peers`: the members of the mesh as this node sees them."""

from typing import Any

import click

from meshd_node.cli.columns import lay_out
from meshd_node.cli.daemon import ask
from meshd_node.cli.output import Output
from meshd_node.cli.peer_rows import GONE, WITH_SHORT_IDS, WITH_WHOLE_IDS, by_name, name_of, summary
from meshd_node.cli.peers_watch import watch
from meshd_node.cli.text import printable, rows_of
from meshd_protocol.messages.local import Question


@click.command("peers")
@click.option("--watch", "watching", is_flag=True, help="Go on: what changed first, drawn anew each second; q ends.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch, one line for each change.")
def command(watching: bool, as_json: bool) -> int:
    """List the members of the mesh, this node among them."""
    if watching:
        return watch(Output(), as_json=as_json)
    return peers(Output(), as_json=as_json)


def peers(output: Output, *, as_json: bool) -> int:
    """Ask the daemon and print."""
    found = rows_of(ask(Question.PEERS))
    if as_json:
        output.json(found)
        return 0
    print_peers(output, found)
    return 0


def print_peers(output: Output, found: list[dict[str, Any]]) -> None:
    """Print a line for each member, what this node doubts of their word, and how many there are."""
    rows = by_name(found)
    listing = lay_out(WITH_WHOLE_IDS if output.width is None else WITH_SHORT_IDS, rows, output.width)
    lines = [output.styled("bold", listing.header)]
    for row, line in zip(rows, listing.lines, strict=True):
        lines.append(output.styled("dim", line) if row["state"] in GONE else line)
    lines += [f"{name_of(row)}: {printable(row['doubt'])}" for row in rows if row["doubt"]]
    output.line("\n".join(lines))
    hidden = f"; no room for {', '.join(listing.hidden)}" if listing.hidden else ""
    output.note(summary(found) + hidden)
