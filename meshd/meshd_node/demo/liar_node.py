"""The demo's liar: a daemon like all others, but its workers are `liar`'s. Nothing but this program starts those."""

import sys

from meshd_node.cli.output import Output
from meshd_node.cli.up import up
from meshd_node.demo.lifeline import end_with

if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    up(Output(), worker_module="meshd_node.demo.liar")
