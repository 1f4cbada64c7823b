"""The demo's liar: a daemon like all others, but its workers are `liar`'s. Nothing but this program starts those."""

import os
import sys

from meshd_node.app.run import run_node
from meshd_node.cli.output import Output
from meshd_node.cli.up import ready_line
from meshd_node.demo.lifeline import end_with

if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    output = Output()
    run_node(
        os.environ,
        os.getuid(),
        lambda started: output.line(ready_line(started)),
        worker_module="meshd_node.demo.liar",
    )
