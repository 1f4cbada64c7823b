"""`meshd lookup ID|NAME`: where a node is, who owns a job, who has a blob."""

import time
from typing import Any

import click

from meshd_node.cli.daemon import asking
from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.cli.text import ago, counted, number, printable, short, size, table_of
from meshd_protocol.limits import NAME_CHARS_MAX
from meshd_protocol.messages.local import Ask, Question


@click.command("lookup")
@click.argument("what", metavar="ID|NAME")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(what: str, as_json: bool) -> int:
    """Find a node by its name, its id or the beginning of it; a job or a blob by its id.

    The exit code is 69 if nobody knows it.
    """
    if not (0 < len(what) <= NAME_CHARS_MAX and what.isprintable()):
        raise click.BadParameter(f"a name or an id has 1 to {NAME_CHARS_MAX} printable characters")
    return lookup(Output(), what, as_json=as_json)


def lookup(output: Output, what: str, *, as_json: bool) -> int:
    """Have the daemon look; print what it found."""
    with asking() as ask:
        found = table_of(ask(Ask(Question.LOOKUP, text=what)))
    if as_json:
        output.json(found)
        return Exit.OK
    for entry in found["found"]:
        for line in lines_of(entry):
            output.line(line)
    output.note(searched(found["directory"]))
    return Exit.OK


def lines_of(entry: dict[str, Any]) -> list[str]:
    """What was found, for people."""
    who = f"{short(entry['name']) or '-'} ({entry['node']})"
    match entry["kind"]:
        case "node":
            lines = [f"node       {who}, says {_source(entry)}"]
            if "state" in entry:
                lines.append(f"state      {entry['state']} since {ago(entry['since'])}")
            addresses = ", ".join(map(printable, entry["addresses"]))
            lines.append(f"addresses  {addresses or 'none: it dials others and is not dialled'}")
        case "job":
            lines = [f"job        {entry['job']}, says {_source(entry)}", f"owner      {who}"]
            if entry["guardians"]:
                lines.append(f"guardians  {', '.join(entry['guardians'])}")
        case "provider":
            lines = [f"blob       {entry['blob']}, {size(entry['bytes'])}, says {_source(entry)}", f"provider   {who}"]
        case _:
            lines = [f"{entry['kind']:<10} {who}, says {_source(entry)}"]
    return lines


def searched(cost: dict[str, Any] | None) -> str:
    """How it was found."""
    if cost is None:
        return "answered by this node alone, from what it knows of the members"
    who = ", ".join(short(node["name"]) or node["node"] for node in cost["answered_by"])
    took = f"{counted(cost['hops'], 'hop')}, {counted(cost['asked'], 'question')}, {number(cost['ms'], ' ms')}"
    return f"directory: {took}, " + (f"answered by {who}" if who else "nobody had a record")


def _source(entry: dict[str, Any]) -> str:
    if "record" not in entry:
        return str(entry["from"])
    ends = f", ends in {max(0.0, entry['expires'] - time.time()) / 60:.0f} min" if "expires" in entry else ""
    return "{} (record {}.{}{})".format(entry["from"], *entry["record"], ends)
