"""`meshd install`: have systemd run this machine's node."""

from collections.abc import Sequence
from pathlib import Path

import click

from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.errors import MeshdError
from meshd_node.installation.places import FOLDER
from meshd_node.installation.plans import Situation, installation
from meshd_node.installation.steps import described, perform
from meshd_node.installation.survey import obstacles, require_systemd, surveyed


@click.command("install")
@click.option("--from", "came_from", type=click.Path(path_type=Path), help="Move this node's folder to the service's.")
@click.option("--keep-key", is_flag=True, help="Leave the node's key a file; else systemd seals it where it can.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def command(came_from: Path | None, keep_key: bool, dry_run: bool) -> int:
    """Have systemd run this machine's node, with this very meshd: two units, two users, a folder. As root.

    Once more after an upgrade, or after `meshd init` or `join`, it brings up to date what is there.
    """
    folder = came_from.absolute() if came_from else None
    found = surveyed(folder, keep_key=keep_key)
    if dry_run:
        return rehearse(Output(), found, list(obstacles(folder)))
    require_systemd()
    for error in obstacles(folder):
        raise error
    return install(Output(), found)


def rehearse(output: Output, found: Situation, in_the_way: Sequence[MeshdError]) -> int:
    """Say what would be done, and then what keeps it from being done now. It ends with the code that root would get."""
    for step in installation(found):
        output.line(described(step))
    for error in in_the_way:
        output.note(f"in the way: {error} ({error.hint})")
    return in_the_way[0].exit_code if in_the_way else Exit.OK


def install(output: Output, found: Situation) -> int:
    """Do it, telling of each step; then say what comes next."""
    perform(list(installation(found)), output.line)
    if found.is_node:
        output.note("meshd runs as a service: `systemctl status meshd`, `meshd doctor`")
    else:
        output.note(f"next: `meshd join TOKEN` (or `init`) as root, for a node in {FOLDER}; then `meshd install` again")
    output.note("whoever may submit work belongs into the group meshd: `usermod -aG meshd NAME`")
    return Exit.OK
