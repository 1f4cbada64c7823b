"""`meshd uninstall`: take the node out of systemd's hands."""

import click

from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.installation.places import FOLDER
from meshd_node.installation.plans import removal
from meshd_node.installation.steps import described, perform
from meshd_node.installation.survey import is_sealed, require_no_root_key, require_systemd


@click.command("uninstall")
@click.option("--purge", is_flag=True, help="Remove the node itself, too: its folder with its key, and the users.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def command(purge: bool, dry_run: bool) -> int:
    """Stop the service and remove its units; the node's folder stays. As root."""
    if not dry_run:
        require_systemd()
    if purge:
        require_no_root_key()
    return uninstall(Output(), sealed=is_sealed(), purge=purge, dry_run=dry_run)


def uninstall(output: Output, *, sealed: bool, purge: bool, dry_run: bool) -> int:
    """Do it, or say it; then say what is left."""
    steps = list(removal(sealed=sealed, purge=purge))
    if dry_run:
        for step in steps:
            output.line(described(step))
        return Exit.OK
    perform(steps, output.line)
    output.note(
        "nothing of the node is left" if purge else f"the node stays in {FOLDER}: `meshd install` runs it again"
    )
    return Exit.OK
