"""`meshd init`: found a mesh, with this machine as its first node."""

import os
import socket
import time
from pathlib import Path

import click

from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.cli.settings import write_settings
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.founding import Founding, init_mesh
from meshd_node.places import node_folder


@click.command("init")
@click.option("--name", default="mesh", show_default=True, help="The mesh's name, for people.")
@click.option("--operator", help="Whom this node belongs to. Default: the mesh's name.")
@click.option("--node-name", help="This node's name, for people. Default: the host's name.")
@click.option("--listen", metavar="HOST:PORT", help="Where other nodes reach this one. Default: 0.0.0.0:7423.")
@click.option("--advertise", metavar="HOST:PORT", multiple=True, help="What others are told, where that differs.")
@click.option("--root-key", type=click.Path(path_type=Path), help="Keep the root key in this file, off the node.")
def command(
    name: str,
    operator: str | None,
    node_name: str | None,
    listen: str | None,
    advertise: tuple[str, ...],
    root_key: Path | None,
) -> int:
    """Found a mesh: make its root key, and make this machine its first node and issuer."""
    founding = Founding(
        mesh_name=name,
        operator=operator or name,
        node_name=node_name or socket.gethostname(),
        root_key_file=root_key,
    )
    return init(Output(), node_folder(os.environ, os.getuid()), founding, listen, advertise)


def init(output: Output, folder: Path, founding: Founding, listen: str | None, advertise: tuple[str, ...]) -> int:
    """Make the folder a node, and say what comes next."""
    settings = write_settings(folder, listen, advertise)
    node = NodeFolder(folder)
    init_mesh(node, founding, time.time(), os.urandom)
    settings()
    root_key = founding.root_key_file or node.root_key_file
    output.note(f"founded mesh {founding.mesh_name} in {folder}")
    output.note(f"the root key is {root_key}: keep a copy where nobody else can read it, it can not be made again")
    output.note("next: `meshd up` here; `meshd invite` prints a token for each further machine")
    return Exit.OK
