"""How far this node may trust its own clock and links: Lifeguard's local health (arXiv:1707.00788)."""

from meshd_protocol.ids import NodeId


class Health:
    """0 is well; at most `worst`. Who is unwell probes less often and waits longer before it blames others."""

    __slots__ = ("_accusers", "_worst", "score")

    def __init__(self, worst: int) -> None:
        self._worst = worst
        self._accusers: set[NodeId] = set()
        self.score = 0

    @property
    def patience(self) -> int:
        """By what to multiply every wait."""
        return self.score + 1

    def answered(self) -> None:
        """A probe of ours was answered."""
        self.score = max(0, self.score - 1)
        if self.score == 0:
            self._accusers.clear()

    def missed(self, reports: int) -> None:
        """So many of those whom we asked for help did not even report: it may be that we do not hear them."""
        self.score = min(self._worst, self.score + reports)

    def accused(self, accuser: NodeId) -> None:
        """Somebody does not hear us. It counts once until we are well again, so that one liar can not slow us down."""
        if accuser not in self._accusers:
            self._accusers.add(accuser)
            self.missed(1)
