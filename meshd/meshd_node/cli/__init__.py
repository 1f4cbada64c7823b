"""The command line: a verb is a module; its function goes from arguments and output to an exit code.

`main` is the script `meshd`. A verb's module is imported when the verb is used, so that `meshd status` does not load
the daemon.
"""

from meshd_node.cli.main import main

__all__ = ["main"]
