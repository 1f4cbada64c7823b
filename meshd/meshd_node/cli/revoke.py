"""`meshd revoke NODE`: take a node's place in the mesh away."""

from datetime import UTC, datetime

import click

from meshd_node.cli.daemon import asking
from meshd_node.cli.output import Output
from meshd_node.cli.text import short, table_of
from meshd_protocol.limits import NAME_CHARS_MAX, OPERATOR_CHARS_MAX
from meshd_protocol.messages.local import Revoke


@click.command("revoke")
@click.argument("node", metavar="NODE")
@click.option("--reason", default="", help="One line that every node of the mesh may show.")
@click.option("--operator", default="", help="Whom the node belonged to, if nobody here knows it any more.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(node: str, reason: str, operator: str, as_json: bool) -> int:
    """Cut a node off, for good: by its name, its id, or the beginning of it.

    On a node that is an issuer of that operator, as root or the user that its daemon runs as. It can not be taken back:
    the machine comes in again only with a new token.
    """
    _check_length("NODE", node, NAME_CHARS_MAX)
    _check_length("--reason", reason, NAME_CHARS_MAX)
    _check_length("--operator", operator, OPERATOR_CHARS_MAX)
    return revoke(Output(), Revoke(node, operator, reason), as_json=as_json)


def revoke(output: Output, request: Revoke, *, as_json: bool) -> int:
    """Tell the daemon, and say what it did."""
    with asking() as ask:
        found = table_of(ask(request))
    if as_json:
        output.json(found)
        return 0
    until = f"{datetime.fromtimestamp(found['until'], UTC):%Y-%m-%d}"
    output.line(
        f"revoked {short(found['name']) or '-'} ({found['node']}) of operator {short(found['operator'])},"
        f" until its certificates have ended on {until}"
    )
    output.note("it is cut off wherever that is known, in seconds everywhere; what ran there runs elsewhere")
    return 0


def _check_length(what: str, text: str, chars_max: int) -> None:
    if len(text) > chars_max:
        raise click.UsageError(f"{what} has {len(text)} characters, {chars_max} are allowed")
