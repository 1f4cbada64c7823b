"""What `init` and `join` write into `node.toml`: only what was said on the command line."""

from collections.abc import Callable
from pathlib import Path

from meshd_node.addresses import complete_address
from meshd_node.config import FILE_NAME, ListenConfig, NodeConfig, render
from meshd_node.identity.files import replace_private
from meshd_node.net.addresses import split_address


def write_settings(folder: Path, listen: str | None, advertise: tuple[str, ...]) -> Callable[[], None]:
    """Check the settings now, before anything is made; return what writes them once the folder is a node's."""
    host, port = split_address(complete_address(listen or ListenConfig().host))
    listening = ListenConfig(host=host, port=port, advertise=advertise)

    def write() -> None:
        if listening != ListenConfig():
            # The socket's place is never in the file.
            config = NodeConfig(socket=folder, listen=listening)
            replace_private(folder / FILE_NAME, render(config).encode())

    return write
