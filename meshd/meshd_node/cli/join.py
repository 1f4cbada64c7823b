"""`meshd join TOKEN`: make this machine a node of an existing mesh."""

import os
import socket
import sys
import time
from pathlib import Path

import click

from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.cli.settings import write_settings
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.joining import join_mesh
from meshd_node.places import node_folder
from meshd_protocol.limits import TOKEN_CHARS_MAX


@click.command("join")
@click.argument("token")
@click.option("--node-name", help="This node's name, for people. Default: the host's name.")
@click.option("--listen", metavar="HOST:PORT", help="Where other nodes reach this one. Default: 0.0.0.0:7423.")
@click.option("--advertise", metavar="HOST:PORT", multiple=True, help="What others are told, where that differs.")
def command(token: str, node_name: str | None, listen: str | None, advertise: tuple[str, ...]) -> int:
    """Join a mesh with a token made by `meshd invite`; `-` reads it from standard input."""
    if token == "-":  # noqa: S105  # not a secret: it says that the secret comes another way
        token = sys.stdin.read(TOKEN_CHARS_MAX + 1).strip()
    folder = node_folder(os.environ, os.getuid())
    return join(Output(), folder, token, node_name or socket.gethostname(), listen, advertise)


def join(
    output: Output, folder: Path, token: str, node_name: str, listen: str | None, advertise: tuple[str, ...]
) -> int:
    """Ask the mesh for a certificate, and say what comes next."""
    settings = write_settings(folder, listen, advertise)
    identity = join_mesh(NodeFolder(folder), token, node_name, time.time(), os.urandom)
    settings()
    roles = ", ".join(sorted(identity.name.roles))
    output.note(f"joined mesh {identity.facts.mesh_name} as {node_name} of operator {identity.name.operator}: {roles}")
    output.note("next: `meshd up`")
    return Exit.OK
