"""What became of the contacts that others named: whoever makes nodes up is found out by those that never answer."""

from dataclasses import dataclass

from meshd_node.core.directory.config import DirectoryConfig
from meshd_protocol.ids import NodeId


@dataclass(slots=True)
class _Word:
    """How many of one node's hints were asked, by what came of it."""

    waiting: int = 0
    answered: int = 0
    failed: int = 0


class Hearsay:
    """Counts, for each node that hinted at others in one lookup, how its hints turned out."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._config = config
        self._words: dict[NodeId, _Word] = {}

    def asked(self, hinters: list[NodeId]) -> None:
        """A contact that these named is asked."""
        for hinter in hinters:
            self._words.setdefault(hinter, _Word()).waiting += 1

    def answered(self, hinters: list[NodeId], *, late: bool) -> None:
        """It answered. `late`: it was counted as failed before."""
        for hinter in hinters:
            word = self._words[hinter]
            word.answered += 1
            if late:
                word.failed -= 1
            else:
                word.waiting -= 1

    def failed(self, hinters: list[NodeId]) -> list[NodeId]:
        """It did not answer; return those whom nobody should listen to from now on.

        Where 30 % of all nodes have just died, an honest node names as many dead ones: 3 in 100 are taken for liars
        then, and what they named others name as well.
        """
        exposed = []
        for hinter in hinters:
            word = self._words[hinter]
            word.waiting -= 1
            word.failed += 1
            if word.failed >= self._config.blame_min + 3 * word.answered:
                exposed.append(hinter)
        return exposed

    def is_doubtful(self, hinters: list[NodeId]) -> bool:
        """Whether a contact should wait, since so many that the same nodes named have not answered yet.

        A liar's twenty contacts, all nearer than any real one, would else keep everybody else from being asked.
        """
        return bool(hinters) and all(map(self.is_in_doubt, hinters))

    def is_in_doubt(self, hinter: NodeId) -> bool:
        """Whether so many of its hints are open that nobody should count on it, or ask more of them, for the moment."""
        word = self._words.get(hinter)
        return word is not None and word.waiting + word.failed >= self._config.blame_min + 3 * word.answered
