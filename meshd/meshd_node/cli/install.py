"""`meshd install`: have systemd run this machine's node."""

from pathlib import Path

import click

from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.installation.places import FOLDER
from meshd_node.installation.plans import Situation, installation
from meshd_node.installation.steps import described, perform
from meshd_node.installation.survey import require_systemd, surveyed


@click.command("install")
@click.option("--from", "came_from", type=click.Path(path_type=Path), help="Move this node's folder to the service's.")
@click.option("--keep-key", is_flag=True, help="Leave the node's key a file; else systemd seals it where it can.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def command(came_from: Path | None, keep_key: bool, dry_run: bool) -> int:
    """Have systemd run this machine's node, with this very meshd: two units, two users, a folder. As root.

    Once more after an upgrade, or after `meshd init` or `join`, it brings up to date what is there.
    """
    if not dry_run:
        require_systemd()
    found = surveyed(came_from.absolute() if came_from else None, keep_key=keep_key)
    return install(Output(), found, dry_run=dry_run)


def install(output: Output, found: Situation, *, dry_run: bool) -> int:
    """Do it, or say it; then say what comes next."""
    steps = list(installation(found))
    if dry_run:
        for step in steps:
            output.line(described(step))
        return Exit.OK
    perform(steps, output.line)
    if found.is_node:
        output.note("meshd runs as a service: `systemctl status meshd`, `meshd doctor`")
    else:
        output.note(f"next: `meshd join TOKEN` (or `init`) as root, for a node in {FOLDER}; then `meshd install` again")
    output.note("whoever may submit work belongs into the group meshd: `usermod -aG meshd NAME`")
    return Exit.OK
