"""`meshd invite`: print a token that lets another machine in."""

import os
import re
import time
from pathlib import Path

import click

from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.config import load
from meshd_node.errors import MeshdError
from meshd_node.identity.folder import NodeFolder, load_key
from meshd_node.identity.inviting import DEFAULT_ROLES, Invitation, make_invite
from meshd_node.net.addresses import split_address
from meshd_node.net.advertised import advertised
from meshd_node.places import node_folder
from meshd_protocol.limits import SEEDS_MAX
from meshd_protocol.names import Role

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class _Ttl(click.ParamType[float]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read `24h`, `30m`, `2d`; a bare number is seconds."""
        found = re.fullmatch(r"(\d{1,9})([smhd]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is not a duration: write 30m, 24h or 2d", param, ctx)
        return float(found[1]) * _UNITS[found[2] or "s"]


class _Roles(click.ParamType[frozenset[Role]]):
    name = "roles"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[Role]:
        """Read a list like `worker,submitter`."""
        if isinstance(value, frozenset):
            return value
        try:
            return frozenset(Role(name.strip()) for name in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of roles out of {', '.join(Role)}", param, ctx)


@click.command("invite")
@click.option("--role", "roles", type=_Roles(), default=DEFAULT_ROLES, metavar="R,…", help="Default: worker,submitter.")
@click.option("--operator", help="Whom the new node belongs to. Default: whom this node belongs to.")
@click.option("--ttl", type=_Ttl(), default="24h", show_default=True, help="How long the token is good.")
@click.option("--uses", type=int, default=1, show_default=True, help="How many machines it lets in.")
@click.option("--root-key", type=click.Path(path_type=Path), help="To grant what this issuer may not yet grant.")
def command(roles: frozenset[Role], operator: str | None, ttl: float, uses: int, root_key: Path | None) -> int:
    """Print a token, and nothing else, on standard output. Whoever has it can join: hand it over like a password."""
    folder = node_folder(os.environ, os.getuid())
    node = NodeFolder(folder)
    node.standing()
    invitation = Invitation(seeds=seeds_of(folder), roles=roles, operator=operator, ttl_s=ttl, uses=uses)
    return invite(Output(), node, invitation, root_key)


def invite(output: Output, folder: NodeFolder, invitation: Invitation, root_key: Path | None) -> int:
    """Make the token and print it."""
    root = load_key(root_key) if root_key is not None else None
    if root_key is not None and root is None:
        raise RootKeyMissing(f"there is no root key at {root_key}", "give the file that `meshd init` wrote")
    output.line(make_invite(folder, invitation, time.time(), os.urandom, root))
    machines = "one machine" if invitation.uses == 1 else f"{invitation.uses} machines"
    output.note(f"lets {machines} join through {', '.join(invitation.seeds)}: `meshd join TOKEN` there")
    return Exit.OK


class RootKeyMissing(MeshdError):
    """A file that was named is not there."""

    exit_code = Exit.NO_INPUT


class PortUnknown(MeshdError):
    """A node that listens on whatever port is free can not be named in a token."""

    exit_code = Exit.CONFIG


def seeds_of(folder: Path) -> tuple[str, ...]:
    """The addresses that a joiner is told: what this node advertises."""
    listen = load(folder, os.environ).listen
    seeds = listen.advertise or tuple(advertised([listen.address]))
    if any(split_address(seed)[1] == 0 for seed in seeds):
        raise PortUnknown("this node listens on any free port", "set listen.port, or listen.advertise, in node.toml")
    return seeds[:SEEDS_MAX]
