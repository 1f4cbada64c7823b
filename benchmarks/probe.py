"""One measurement in a process of its own: `python -m benchmarks.probe PEER MEASURE SCRATCH SIZES ANSWER`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.figures import Figure, Sizes
from benchmarks.measures import MEASURES, PREPARE
from benchmarks.peers import ENTRIES
from benchmarks.peers.peer import NotOffered, Place


def main(peer: str, measure: str, scratch: str, sizes: str, answer: str) -> None:
    """Measure, and write the figure or the reason why there is none into the file `answer`."""
    chosen = (MEASURES | {PREPARE.key: PREPARE})[measure]
    figure, not_offered = Figure(None), ""
    try:
        figure = chosen.run(ENTRIES[peer], Place(Path(scratch)), Sizes(**json.loads(sizes)))
    except NotOffered as missing:
        not_offered = str(missing)
    Path(answer).write_text(json.dumps({"figure": asdict(figure), "not_offered": not_offered}))


if __name__ == "__main__":
    main(*sys.argv[1:])
