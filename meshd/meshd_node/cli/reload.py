"""`meshd reload`: have this machine's node read its charter again, now."""

import click

from meshd_node.cli.daemon import asking
from meshd_node.cli.output import Output
from meshd_protocol.messages.local import Reload


@click.command("reload")
def command() -> int:
    """Read the table [charter] of node.toml again. The daemon does so by itself when the file changes, a bit later.

    What no longer fits is handed back to its owners. All other settings need a restart. As root or the daemon's user.
    """
    return reload(Output())


def reload(output: Output) -> int:
    """Tell the daemon; a charter that can not be used is its refusal."""
    with asking() as ask:
        ask(Reload())
    output.line("the charter in the file holds: `meshd charter` says what it allows")
    return 0
