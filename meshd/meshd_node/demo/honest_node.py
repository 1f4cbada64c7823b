"""An honest node of the demo: `meshd up`, and nothing else."""

import sys

from meshd_node.cli.main import main
from meshd_node.demo.lifeline import end_with

if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    main(["up"])
