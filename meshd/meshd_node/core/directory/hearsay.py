"""What became of the contacts that others named: whoever makes nodes up is found out by those that never answer."""

from dataclasses import dataclass

from meshd_node.core.directory.config import DirectoryConfig
from meshd_protocol.ids import NodeId


@dataclass(slots=True)
class _Word:
    answered: int = 0
    failed: int = 0


class Hearsay:
    """Counts, for each node that hinted at others in one lookup, how its hints turned out."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._config = config
        self._words: dict[NodeId, _Word] = {}

    def proved(self, hinters: list[NodeId]) -> None:
        """A contact that these named answered."""
        for hinter in hinters:
            self._words.setdefault(hinter, _Word()).answered += 1

    def excused(self, hinters: list[NodeId]) -> None:
        """It was only late."""
        for hinter in hinters:
            self._words[hinter].failed -= 1

    def failed(self, hinters: list[NodeId]) -> list[NodeId]:
        """A contact that these named did not answer; return those whom nobody should listen to from now on.

        Where 30 % of all nodes have just died, an honest node names as many dead ones: 3 in 100 are taken for liars
        then, and what they named others name as well.
        """
        exposed = []
        for hinter in hinters:
            word = self._words.setdefault(hinter, _Word())
            word.failed += 1
            if word.failed >= self._config.blame_min and word.failed > 3 * word.answered:
                exposed.append(hinter)
        return exposed
